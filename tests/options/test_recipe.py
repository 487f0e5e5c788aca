"""Which options go with --recipe."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.options.recipe import refuse_others


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["recipe", "quiet", "json"],
            "--quiet, --json cannot be used with --recipe, which prints",
        ),
        (
            ["recipe", "trials", "sampler"],
            "--trials, --sampler cannot be used with --recipe, which defines",
        ),
    ],
)
def test_options_that_a_recipe_has_no_use_for(given: list[str], said: str) -> None:
    with pytest.raises(AutorankError, match=said):
        refuse_others(iter(given))


def test_options_of_a_machine_go_with_a_recipe() -> None:
    refuse_others(["recipe", "rows", "seeds", "runs", "concurrency", "precision", "dry_run"])
