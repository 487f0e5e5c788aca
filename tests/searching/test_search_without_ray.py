"""Searches that end before Ray starts: contradictory options are refused, valid ones are stored."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autorank.errors import AutorankError
from autorank.searching.budget import Budget
from autorank.searching.create import open_journal
from autorank.searching.ray.actors.trainable import WarmTrial
from autorank.searching.ray.cluster import connection
from autorank.searching.search import reference_point, run_missing_trials, search
from autorank.searching.space.param_bounds import parameter_range
from autorank.spec import MethodSpec, ObjectivesSpec, TrainingSpec
from autorank.trials.journal.journal import Journal
from tests.searching.fake_runs import SPACE, bounds, search_spec


@pytest.mark.parametrize("objectives", [ObjectivesSpec(third_objective="memory"), ObjectivesSpec(max_memory=10**9)])
def test_lanes_cannot_be_combined_with_memory_objectives(tmp_path: Path, objectives: ObjectivesSpec) -> None:
    with pytest.raises(AutorankError, match="--lanes auto cannot be combined with --objective memory or --max-memory"):
        search(search_spec(objectives=objectives), tmp_path, Budget(lanes="auto"))


def test_scores_of_the_largest_adapters_count_for_the_hypervolume() -> None:
    _, most = parameter_range(search_spec(), bounds)
    assert reference_point(search_spec(), bounds) == (most + 1, 0)
    one_size = MethodSpec(method="lora", settings={"rank": 4}, space={"learning_rate": SPACE["learning_rate"]})
    low, high = parameter_range(search_spec(methods=(one_size,)), bounds)
    assert low == high and reference_point(search_spec(methods=(one_size,)), bounds) == (2 * high, 0)
    sliced = search_spec(methods=(one_size,), training=TrainingSpec(slices="auto"))
    assert reference_point(sliced, bounds) == (high + 1, 0)


def test_options_are_stored_before_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(address: str | None, log: Path) -> Any:
        raise AutorankError("Ray did not start")
        yield

    monkeypatch.setattr(connection, "running", fails)
    folder, tracking = tmp_path / "runs" / "standin", f"sqlite:///{tmp_path / 'mine.db'}"

    def attempt(budget: Budget) -> dict[str, Any]:
        journal = open_journal(search_spec(), folder, lambda: (64.0, 0.0))
        with journal, pytest.raises(AutorankError, match="did not start"):
            run_missing_trials(journal, WarmTrial, bounds, budget, tracking)
        return Journal.open(folder).options

    stored = attempt(Budget(7, confirm=2, storage="memory://bucket"))
    assert stored == {"trials": 7, "confirm": 2, "storage": "memory://bucket", "tracking": tracking}
    assert attempt(Budget()) == stored
    assert attempt(Budget(9, more=True)) == stored  # +9, of which none is done yet
