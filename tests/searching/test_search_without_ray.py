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
from autorank.searching.search import run_missing_trials, search
from autorank.spec import ObjectivesSpec
from autorank.trials.journal.journal import Journal
from tests.searching.fake_runs import bounds, search_spec


@pytest.mark.parametrize("objectives", [ObjectivesSpec(third_objective="memory"), ObjectivesSpec(max_memory=10**9)])
def test_lanes_cannot_be_combined_with_memory_objectives(tmp_path: Path, objectives: ObjectivesSpec) -> None:
    with pytest.raises(AutorankError, match="--lanes auto cannot be combined with --objective memory or --max-memory"):
        search(search_spec(objectives=objectives), tmp_path, Budget(lanes="auto"))


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
