"""Statistics of a front over several seeds, against numbers computed independently."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import front
from autorank.trials.point import Point
from autorank.trials.snapshot import Confirmations, Snapshot
from autorank.trials.statistics.confirmation_stats import Confirmed, best_gain
from autorank.trials.statistics.confirmation_stats import summarize as summarize_points
from tests.trials.trial_factories import sliced, trial


def points(*values: tuple[int, float]) -> list[Point]:
    return front([trial(number, point) for number, point in enumerate(values)])


Results = dict[tuple[int, int, int], dict[str, Any]]


def by_point(results: Results, points: Sequence[Point]) -> Confirmations:
    """Return the results by keys of the points; a trial has one point at most."""
    params = {point.trial: point.adapter_params for point in points}
    return {(trial, step, params.get(trial, 1), seed): values for (trial, step, seed), values in results.items()}


def summarize_by_step(points: list[Point], results: Results) -> dict[Any, Confirmed]:
    """Return the statistics by trial and step."""
    stats = summarize_points(points, Snapshot([], points, [], by_point(results, points)))
    return {(trial, step): value for (trial, step, _), value in stats.items()}


def results(*scores: list[float]) -> Results:
    """Return results of trial i's evaluation at step 10, with seeds 0, 1, ..."""
    return {
        (i, 10, seed): {"score": score}
        for i, seed_scores in enumerate(scores)
        for seed, score in enumerate(seed_scores)
    }


def test_mean_and_standard_deviation() -> None:
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), results([0.6, 0.7, 0.8], [0.81, 0.79, 0.8]))
    for key, scores in {(0, 10): [0.6, 0.7, 0.8], (1, 10): [0.81, 0.79, 0.8]}.items():
        assert stats[key].mean == pytest.approx(statistics.fmean(scores))
        assert stats[key].sd == pytest.approx(statistics.stdev(scores))
        assert stats[key].seeds == 3
    assert str(stats[0, 10]) == "0.7000 ± 0.1000"


def test_points_of_one_training_deviate_together() -> None:
    """The differences between the two points are 0.01 for each seed, far less than the deviations of the scores."""
    scores = [[0.70, 0.75, 0.80], [0.71, 0.76, 0.81]]
    apart = summarize_by_step(points((10, 0.7), (100, 0.71)), results(*scores))
    whole = trial(0, sliced(10, 100, 0.71, (10, 0.7)))
    front_points = front([whole])
    confirmations = {
        (0, 10, params, seed): {"score": score}
        for params, seed_scores in zip((10, 100), scores, strict=True)
        for seed, score in enumerate(seed_scores)
    }
    together = summarize_points(front_points, Snapshot([whole], front_points, [], confirmations))
    probability, independent = together[0, 10, 100].on_front, apart[1, 10].on_front
    assert probability is not None and independent is not None and 0.55 < independent + 0.05 < probability < 1
    assert together[0, 10, 100].low == pytest.approx(apart[1, 10].low, abs=0.01)  # a point's own interval is the same


def test_the_smallest_is_on_the_front_for_sure_and_a_clear_gap_too() -> None:
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), results([0.60, 0.61, 0.62], [0.90, 0.91, 0.92]))
    assert stats[0, 10].on_front == 1
    assert stats[1, 10].on_front > 0.999


def test_equal_means_are_a_coin_toss() -> None:
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), results([0.7, 0.8], [0.7, 0.8]))
    assert stats[1, 10].on_front == pytest.approx(0.5, abs=0.02)


def student(t: float, freedom: int) -> float:
    """Student's distribution function at t, by integrating its density."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    width = t / 10_000
    middles = (width * (i + 0.5) for i in range(10_000))
    return 0.5 + width * sum(scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) for x in middles)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_probability_is_student_ts(seeds: int) -> None:
    """Two means with nearly one variance: their difference over its standard error has nearly Student's t."""
    low = [0.70, 0.74, 0.78, 0.72, 0.76][:seeds]
    high = [0.75, 0.79, 0.83, 0.77, 0.81][:seeds]
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), results(low, high))
    pooled = (statistics.variance(low) + statistics.variance(high)) / 2
    t = (statistics.fmean(high) - statistics.fmean(low)) / math.sqrt(2 * pooled / seeds)
    assert stats[1, 10].on_front == pytest.approx(student(t, 2 * (seeds - 1)), abs=0.02)


def test_no_interval_ends_above_the_highest_score() -> None:
    (point_stats,) = summarize_by_step(points((10, 0.9)), results([0.95, 0.99])).values()
    assert point_stats.high == 1 and point_stats.low < 0.95


def test_intervals_of_scores_above_1_contain_their_means() -> None:
    percentages = summarize_by_step(points((10, 70.0), (20, 80.0)), results([69.0, 70.0, 71.0], [79.0, 80.0, 81.0]))
    assert all(s.low is not None and s.high is not None and s.low < s.mean < s.high for s in percentages.values())


def test_sizes_that_depend_on_the_seed_are_compared_as_measured() -> None:
    front_points, scores = points((100, 0.7), (200, 0.8)), results([0.90, 0.91], [0.85, 0.86])
    for seed in (0, 1):
        scores[0, 10, seed]["adapter_params"] = 900
    stats = summarize_by_step(front_points, scores)
    assert stats[0, 10].adapter_params == 900 and stats[0, 10].on_front > 0.9 and stats[1, 10].on_front == 1


def test_with_a_third_objective_a_point_may_be_worse_by_both_others() -> None:
    quick = {(1, 10, seed): {"score": 0.80 + seed / 100, "seconds": 5.0} for seed in (0, 1)}
    slow = {(0, 10, seed): {"score": 0.90 + seed / 100, "seconds": 50.0} for seed in (0, 1)}
    front_points = [point for point in (*points((100, 0.9)), *front([trial(1, (200, 0.8))]))]
    confirmed = by_point(quick | slow, front_points)
    assert summarize_points(front_points, Snapshot([], front_points, [], confirmed))[1, 10, 200].on_front < 0.1
    three_objectives = Snapshot([], front_points, [], confirmed, objectives=ObjectivesSpec(third_objective="seconds"))
    assert summarize_points(front_points, three_objectives)[1, 10, 200].on_front == 1


def test_confirmed_gain_is_the_difference_of_the_means_over_new_seeds() -> None:
    front_points, baseline = points((100, 0.9)), front([trial(1, (50, 0.6)), trial(2, (90, 0.7)), trial(3, (200, 0.8))])
    fresh = results([0.80, 0.82], [0.70, 0.72], [0.6, 0.6], [0.9, 0.9])
    snapshot = Snapshot([], front_points, baseline, by_point(fresh, [*front_points, *baseline]))
    (point_stats,) = summarize_points(front_points, snapshot).values()
    assert (
        point_stats.gain_over_baseline
        == pytest.approx(0.81 - 0.71)
        == best_gain(front_points[0], snapshot, point_stats)
    )
    assert best_gain(front_points[0], snapshot, None) == pytest.approx(0.9 - 0.7)
    assert summarize_by_step(front_points, results([0.8]))[0, 10].gain_over_baseline is None


def test_the_gain_is_that_of_the_search_until_all_smaller_points_of_the_baseline_have_new_seeds() -> None:
    """Plain LoRA's best would otherwise be missing."""
    front_points = points((100, 0.75))
    baseline = front([trial(1, (50, 0.605)), trial(2, (90, 0.765))])
    scores = {(0, 10, 100, 5): 0.75, (0, 10, 100, 6): 0.76, (1, 10, 50, 5): 0.60, (1, 10, 50, 6): 0.61}
    confirmations = {key: {"score": score} for key, score in scores.items()}
    snapshot = Snapshot([], front_points, baseline, confirmations)
    (stats,) = summarize_points(front_points, snapshot).values()
    assert stats.gain_over_baseline is None and stats.better is None
    assert best_gain(front_points[0], snapshot, stats) == pytest.approx(0.75 - 0.765)
    confirmations[2, 10, 90, 5] = {"failed": "the GPU was busy"}
    (stats,) = summarize_points(front_points, snapshot).values()
    assert stats.gain_over_baseline is None
    confirmations[2, 10, 90, 5] = {"failed": "Training diverged: the loss is nan at step 20."}  # as it would again
    (stats,) = summarize_points(front_points, snapshot).values()
    assert stats.gain_over_baseline == pytest.approx(0.755 - 0.605)


def test_points_of_one_training_have_separate_statistics() -> None:
    front_points = front([trial(0, sliced(10, 1000, 0.9, (100, 0.8)))])
    confirmed = {(0, 10, 1000, 1): {"score": 0.85}, (0, 10, 100, 1): {"score": 0.7, "adapter_params": 96}}
    stats = summarize_points(front_points, Snapshot([], front_points, [], confirmed))
    assert {key: (value.mean, value.adapter_params) for key, value in stats.items()} == {
        (0, 10, 100): (0.7, 96), (0, 10, 1000): (0.85, 1000),
    }  # fmt: skip


def test_one_seed_has_no_spread() -> None:
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), results([0.7], [0.8]))
    assert stats[0, 10].sd is None and stats[1, 10].on_front is None
    assert str(stats[1, 10]) == "0.8000"


def test_failed_seeds_and_points_off_the_front_do_not_count() -> None:
    confirmed = {(0, 10, 0): {"failed": "out of memory"}, (0, 10, 1): {"score": math.nan}, (7, 10, 0): {"score": 0.9}}
    assert summarize_by_step(points((10, 0.7)), confirmed) == {}


def test_failed_seeds_are_reported() -> None:
    confirmed = results([0.7, 0.72], [0.8, math.nan]) | {(1, 10, 3): {"failed": "diverged"}}
    stats = summarize_by_step(points((10, 0.7), (100, 0.8)), confirmed)
    assert (stats[0, 10].failed, stats[1, 10].failed, stats[1, 10].seeds) == (0, 2, 1)
    assert str(stats[1, 10]) == "0.8000 (2 failed)"
