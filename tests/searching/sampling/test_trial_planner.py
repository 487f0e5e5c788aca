"""Which settings become trials: none that needs longer runs than those of the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autorank import tasks
from autorank.errors import AutorankError
from autorank.methods import configure
from autorank.searching.budget import Budget
from autorank.searching.create import open_journal
from autorank.searching.sampling.trial_planner import TrialPlanner, fitting_settings
from autorank.searching.search import search
from autorank.searching.space.param_bounds import ParamBounds, largest, run_length, smallest
from autorank.searching.space.space import load
from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec

DEMO = TaskSpec(name="demo")
SIZES = ParamBounds(DEMO, None)
LAYERS = 72  # layers of the demo's model


def spec_of(method: str, steps: int, overrides: tuple[str, ...] = ()) -> SearchSpec:
    space = load(method, overrides=overrides)
    entry = MethodSpec(method=method, settings=space.fixed, space=space.ranges)
    return SearchSpec(name="short", task=DEMO, methods=(entry,), training=TrainingSpec(steps=steps))


@pytest.mark.parametrize("steps", [4, 12, 40])
def test_every_trial_of_a_short_search_can_be_trained(steps: int, tmp_path: Any) -> None:
    spec = spec_of("increlora", steps)
    with open_journal(spec, tmp_path / "short", lambda: (1.0, 0.0)) as journal:
        planner = TrialPlanner(journal, SIZES, SIZES.length_check(steps))
        trials = [planner.begin() for _ in range(6)]
    for trial in trials:
        assert trial is not None and trial.state == "running"
        configure("increlora", trial.settings).check_length(LAYERS, steps)


def test_the_settings_that_fit_are_the_largest_that_runs_are_long_enough_for() -> None:
    (entry,) = spec_of("increlora", 4).methods
    assert fitting_settings(entry, SIZES, SIZES.length_check(1000)) == largest(entry, SIZES)
    assert fitting_settings(entry, SIZES, SIZES.length_check(4)) == smallest(entry, SIZES)


@pytest.mark.usefixtures("own_cache")
def test_without_fitting_settings_the_search_is_refused_before_it_starts(tmp_path: Path) -> None:
    spec = spec_of("prilora", 4, ("interval=40", "pruning=0.5"))
    with pytest.raises(AutorankError, match=r"prilora fits.* interval of 40 steps is longer than the run, 4 steps"):
        search(spec, tmp_path / "short", Budget())
    assert not (tmp_path / "short").exists()


def test_a_run_has_the_length_that_is_checked() -> None:
    data = tasks.load(DEMO, tasks.base_model(DEMO, None))
    assert run_length(spec_of("increlora", 4), data).steps == 4
