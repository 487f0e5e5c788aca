"""Options that can be combined with --recipe."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.options.recipe import refuse_others


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_options_that_contradict_a_recipe_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(AutorankError, match=message):
        refuse_others(iter(options))


def test_resource_options_can_be_combined_with_a_recipe() -> None:
    refuse_others(["recipe", "rows", "seeds", "runs", "concurrency", "precision", "dry_run"])
