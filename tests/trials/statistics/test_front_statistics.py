"""What is known about the points of a front: new seeds come before predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autorank.trials.statistics.front_statistics import front_statistics
from tests.trials.searches_with_predictions import small_search
from tests.trials.trial_factories import snapshot, trial

POINT, SMALLER = (0, 10, 100), (1, 10, 40)


def test_a_search_without_predictions_and_new_seeds() -> None:
    statistics = front_statistics(snapshot([trial(0, (100, 0.8))]))
    assert statistics.predicted is None
    assert statistics.certainties == statistics.confirmed == statistics.known == statistics.gain_probabilities == {}


def test_predictions(tmp_path: Path) -> None:
    search = small_search(tmp_path)
    statistics = front_statistics(search)
    assert statistics is front_statistics(search)
    assert set(statistics.known) == {POINT, SMALLER} and statistics.confirmed == {}
    assert statistics.gain_probabilities == {POINT: statistics.certainties[POINT].better}  # no baseline as small


def test_new_seeds_come_before_predictions(tmp_path: Path) -> None:
    """The gain has the probability from predictions until the baseline has new seeds, too."""
    search = small_search(tmp_path)
    of_predictions = front_statistics(search).gain_probabilities[POINT]
    seeds = {(*POINT, seed): {"score": score} for seed, score in ((5, 0.80), (6, 0.82))}
    statistics = front_statistics(replace(search, confirmed=seeds))
    assert statistics.known[POINT] is statistics.confirmed[POINT]
    assert statistics.known[SMALLER] is statistics.certainties[SMALLER]
    assert statistics.gain_probabilities == {POINT: of_predictions}
    baseline = {(*point.key, seed): {"score": 0.6 + seed / 1000} for point in search.baseline for seed in (5, 6)}
    statistics = front_statistics(replace(search, confirmed=seeds | baseline))
    assert statistics.gain_probabilities == {POINT: pytest.approx(1.0, abs=0.05)}


def test_a_gain_from_new_seeds_has_no_probability_from_predictions(tmp_path: Path) -> None:
    """One new seed, without predictions, gives a gain but no probability."""
    search = small_search(tmp_path)
    confirmed = {(*point.key, 5): {"score": 0.7} for point in (*search.points, *search.baseline)}
    statistics = front_statistics(replace(search, confirmed=confirmed))
    assert statistics.confirmed[POINT].gain_over_baseline == 0
    assert statistics.gain_probabilities == {}


def test_a_point_whose_new_seeds_all_failed_is_not_certain(tmp_path: Path) -> None:
    search = small_search(tmp_path)
    seeds = {(*SMALLER, 5): {"score": 0.7}, (*SMALLER, 6): {"failed": "out of memory"}}
    failures = {(*POINT, 5): {"failed": "diverged"}, (*POINT, 6): {"failed": "diverged"}}
    statistics = front_statistics(replace(search, confirmed=seeds | failures))
    assert statistics.failed == {POINT: 2} and POINT not in statistics.known and statistics.gain_probabilities == {}
    assert statistics.new_seeds(POINT) == "(2 failed)" and statistics.new_seeds(SMALLER) == "0.7000 (1 failed)"
    assert statistics.confirmed[SMALLER].varied is None


def test_what_intervals_are_over(tmp_path: Path) -> None:
    seeds = {(*SMALLER, 5): {"score": 0.7}, (*SMALLER, 6): {"score": 0.71}}
    statistics = front_statistics(replace(small_search(tmp_path), confirmed=seeds))
    assert statistics.confirmed[SMALLER].varied == "seeds"
