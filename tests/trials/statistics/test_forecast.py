"""Forecasts of hypervolume: their subsets against fronts of the same trials, and their coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import NO_LIMITS, front, hypervolume
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.forecast import MIN_TRIALS, Forecast, subset_hypervolumes
from autorank.trials.statistics.forecast import forecast as forecast_of
from tests.trials.trial_factories import sliced, trial

REFERENCE = (1000.0, 0.5)
rng = np.random.default_rng(0)


def forecast(trials: list[TrialRecord], more: int, fixed: int = 2) -> Forecast | None:
    """The forecast if the first trials have settings that are not sampled."""
    trials = [replace(trial, fixed=index < fixed) for index, trial in enumerate(trials)]
    return forecast_of(Snapshot(trials, [], [], reference=REFERENCE), more)


def random_trials(count: int) -> list[TrialRecord]:
    """Trials of independent sizes and scores, each with a slice; some are beyond the reference."""
    trials = []
    for number in range(count):
        size, score = int(rng.integers(100, 1100)), float(rng.uniform(0.4, 0.9))
        trials.append(trial(number, sliced(10, size, score, (size // 3, score - 0.1))))
    return trials


@pytest.mark.parametrize("objectives", [NO_LIMITS, ObjectivesSpec(max_params=600)])
def test_subsets_have_the_hypervolumes_of_their_fronts(objectives: ObjectivesSpec) -> None:
    trials = random_trials(12)
    chosen = rng.random((20, 12)) < 0.4
    chosen[0] = False
    expected = [
        hypervolume(front([t for t, is_chosen in zip(trials, subset, strict=True) if is_chosen], objectives), REFERENCE)
        for subset in chosen
    ]
    assert subset_hypervolumes(trials, chosen, REFERENCE, objectives) == pytest.approx(expected)


def test_the_limit_of_independent_trials_holds() -> None:
    """In 100 searches, after 10 and 20 trials each, 85 to 97% of the gains are within the 90% limit."""
    hits = []
    for _ in range(100):
        trials = random_trials(30)
        for now, more in ((10, 5), (20, 10)):
            result = forecast(trials[:now], more)
            assert result is not None
            later = hypervolume(front(trials[: now + more]), REFERENCE)
            hits.append(later - result.hypervolume <= result.high + 1e-12)
    assert 0.85 <= np.mean(hits) <= 0.97


def test_a_search_whose_first_trial_is_the_best_by_far_is_flat_after_a_while() -> None:
    best = [trial(0, (1, 0.9))]
    dominated = [trial(number, (500, 0.6)) for number in range(1, 40)]
    repeated = [trial(number, (1, 0.9)) for number in range(40, 50)]
    assert forecast([*best, *dominated], 10) is not None
    result = forecast([*best, *dominated, *repeated], 10)
    assert result is not None and result.flat and result.expected == 0
    rising = forecast(random_trials(8), 10)
    assert rising is not None and not rising.flat


def test_baseline_and_running_trials_do_not_count() -> None:
    trials = random_trials(2 + MIN_TRIALS)
    assert forecast(trials[1:], 5) is None and forecast(trials, 0) is None
    result = forecast(trials, 5)
    ignored = [trial(90, (1, 0.99), baseline=True), trial(91, (1, 0.98), state="running")]
    assert result is not None and forecast([*trials, *ignored], 5) == result
    assert str(result).startswith(f"+{result.expected:.4f} expected from 5 more trials (90%: at most ")


def test_the_share_of_the_baseline_does_not_count_as_further_trials() -> None:
    trials = random_trials(15)
    baseline = [trial(100 + number, (5, 0.1), baseline=True) for number in range(5)]
    with_baseline, without = forecast([*trials, *baseline], 40), forecast(trials, 30)
    assert with_baseline is not None and without is not None
    assert (with_baseline.expected, with_baseline.high) == (without.expected, without.high)


def test_trials_that_are_not_sampled_do_not_affect_the_forecast() -> None:
    first = [trial(0, (1, 0.9)), trial(1, (900, 0.91))]
    sampled = [trial(number, (500, 0.6)) for number in range(2, 10)]
    result = forecast([*first, *sampled], 10)
    assert result is not None and result.mean == result.high == 0


def test_only_trials_that_are_not_sampled_are_left_out() -> None:
    trials = [trial(number, (500, 0.6)) for number in range(10)]
    trials[2] = trial(2, (1, 0.9))
    counted, fixed = forecast(trials, 10), forecast(trials, 10, fixed=3)
    assert counted is not None and fixed is not None and counted.mean > 0.1 and fixed.mean == 0


def test_no_forecast_without_a_point_in_the_box() -> None:
    assert forecast([trial(number, (2000, 0.9)) for number in range(20)], 10) is None
