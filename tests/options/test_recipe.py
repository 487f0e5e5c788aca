"""Which options go with --recipe."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.options.recipe import refuse_others


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["recipe", "quiet", "json"], "--quiet, --json: not with --recipe, whose trainings are told a line each"),
        (["recipe", "trials", "sampler"], "--trials, --sampler: not with --recipe, which says itself what is trained"),
    ],
)
def test_options_that_a_recipe_has_no_use_for(given: list[str], said: str) -> None:
    with pytest.raises(AutorankError, match=said):
        refuse_others(iter(given))


def test_options_of_a_machine_go_with_a_recipe() -> None:
    refuse_others(["recipe", "rows", "seeds", "runs", "concurrency", "precision", "dry_run"])
