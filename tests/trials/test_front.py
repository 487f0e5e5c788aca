"""Fronts, hypervolumes and knees against cases worked by hand."""

from __future__ import annotations

import math

import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import candidates, front, gain, hypervolume, knee, non_dominated
from tests.trials.trial_factories import evaluation, point_values, sliced, trial


def test_front_is_taken_over_all_evaluations():
    # trial 0's first evaluation beats its last; trial 1 shrinks and its middle evaluation is on the front
    trials = [trial(0, (100, 0.7), (100, 0.6)), trial(1, (300, 0.8), (200, 0.75), (50, 0.2))]
    assert point_values(front(trials)) == [
        (1, 30, 50, 0.2),
        (0, 10, 100, 0.7),
        (1, 20, 200, 0.75),
        (1, 10, 300, 0.8),
    ]


def test_every_slice_is_a_candidate():
    curve = sliced(10, 1000, 0.9, (10, 0.5), (100, 0.85))
    trials = [trial(0, curve), trial(1, (200, 0.86), (50, 0.6))]
    assert point_values(front(trials)) == [
        (0, 10, 10, 0.5), (1, 20, 50, 0.6), (0, 10, 100, 0.85), (1, 10, 200, 0.86), (0, 10, 1000, 0.9),
    ]  # fmt: skip
    cut, uncut = front(trials)[2], front(trials)[-1]
    assert (cut.component_masks, cut.cut_from, cut.nonzero_params) == (curve.slices[1].component_masks, 1000, 100)
    assert (cut.metrics, cut.settings, cut.seconds) == ({"accuracy": 0.85}, uncut.settings, uncut.seconds)
    assert (uncut.component_masks, uncut.cut_from) == (None, None)
    assert cut.label == "trial 0, step 10, cut from 1,000 to 100 parameters" and uncut.label == "trial 0, step 10"


def test_a_whole_adapter_is_preferred_to_an_equal_slice():
    trials = [trial(0, sliced(10, 300, 0.7, (100, 0.8))), trial(1, (100, 0.8))]
    assert [(p.key, p.component_masks) for p in front(trials)] == [((1, 10, 100), None)]


def test_gain_is_over_the_curve_of_the_baseline():
    trials = [trial(0, (100, 0.75)), trial(1, sliced(10, 1000, 0.9, (50, 0.6), (100, 0.7)), baseline=True)]
    assert gain(front(trials)[0], front(trials, baseline=True)) == pytest.approx(0.05)


def test_dominated_points_are_removed():
    trials = [trial(0, (100, 0.7)), trial(1, (100, 0.6)), trial(2, (150, 0.7)), trial(3, (200, 0.65))]
    assert point_values(front(trials)) == [(0, 10, 100, 0.7)]


def test_the_earliest_of_equal_points_stays():
    trials = [trial(0, (200, 0.9)), trial(1, (100, 0.5), (100, 0.5)), trial(2, (100, 0.5))]
    assert point_values(front(trials)) == [(1, 10, 100, 0.5), (0, 10, 200, 0.9)]


def test_failed_and_running_trials_count_with_their_finite_scores():
    failed = trial(0, (100, 0.7), (100, math.nan), (100, -math.inf), state="failed", reason="diverged")
    running = trial(1, (50, 0.6), state="running")
    assert point_values(front([failed, running])) == [(1, 10, 50, 0.6), (0, 10, 100, 0.7)]


def test_without_trials_the_front_is_empty():
    assert front([]) == []
    assert front([trial(0, (100, math.nan))]) == []
    assert hypervolume([], (100, 0.5)) == 0
    assert knee([]) is None


def test_hypervolume():
    # In the box 1000 wide and 0.5 high: 900 x 0.2 for the first, and 600 x 0.2 more above it for the second
    points = front([trial(0, (100, 0.7)), trial(1, (400, 0.9))])
    assert hypervolume(points, (1000, 0.5)) == pytest.approx((900 * 0.2 + 600 * 0.2) / (1000 * 0.5))


def test_points_outside_the_box_count_for_nothing():
    points = front([trial(0, (10, 0.4)), trial(1, (100, 0.7)), trial(2, (2000, 0.95))])
    assert hypervolume(points, (1000, 0.5)) == pytest.approx(900 * 0.2 / 500)


def test_hypervolume_is_one_for_a_perfect_score_of_nothing_and_takes_negative_scores():
    assert hypervolume(front([trial(0, (0, 1.0))]), (1000, -0.2)) == pytest.approx(1)
    assert hypervolume(front([trial(0, (500, 0.4))]), (1000, -0.2)) == pytest.approx(0.5 * 0.6 / 1.2)


@pytest.mark.parametrize("reference", [(0, 0.5), (100, 1.0)])
def test_an_empty_box_is_refused(reference):
    with pytest.raises(ValueError, match="reference"):
        hypervolume(front([trial(0, (1, 0.9))]), reference)


def test_knee_is_farthest_above_the_chord_in_log_parameters():
    # log10: 1, 2, 3, 4 -> 0, 1/3, 2/3, 1; scores -> 0, 0.5, 0.95, 1; heights 0, 0.167, 0.283, 0
    points = front([trial(0, (10, 0.5)), trial(1, (100, 0.7)), trial(2, (1000, 0.88)), trial(3, (10000, 0.9))])
    assert [p.knee for p in points] == [False, False, True, False]


def test_knee_tie_goes_to_fewer_parameters():
    # heights of the inner points: 0.6 - 1/3 and 0.6 + 1/3 - 2/3: equal
    scores = (0.0, 0.6, 0.6 + 1 / 3, 1.0)
    points = front([trial(i, (10 ** (i + 1), score)) for i, score in enumerate(scores)])
    assert knee(points).adapter_params == 100


@pytest.mark.parametrize(
    "scores",
    [(0.5,), (0.5, 0.9), (0.5, 0.7, 0.9), (0.5, 0.51, 0.9)],
    ids=["one", "two", "straight", "hollow"],
)
def test_front_without_a_bend_has_its_knee_at_its_best_score(scores):
    points = front([trial(i, (10 ** (i + 1), score)) for i, score in enumerate(scores)])
    assert [p.knee for p in points] == [False] * (len(scores) - 1) + [True]


def test_the_baseline_has_a_separate_front():
    trials = [trial(0, (100, 0.7)), trial(1, (10, 0.9), (5, 0.2), baseline=True, method="lora"), trial(2, (50, 0.6))]
    assert point_values(front(trials)) == [(2, 10, 50, 0.6), (0, 10, 100, 0.7)]
    assert point_values(front(trials, baseline=True)) == [(1, 20, 5, 0.2), (1, 10, 10, 0.9)]
    assert [p.method for p in front(trials, baseline=True)] == ["lora", "lora"]
    assert len(candidates(trials)) == 4


def test_gain_is_over_the_baseline_s_best_with_no_more_parameters():
    trials = [trial(0, (9, 0.5), (100, 0.75), (300, 0.95)), trial(1, (10, 0.5), (100, 0.7), (200, 0.8), baseline=True)]
    points, baseline = front(trials), front(trials, baseline=True)
    assert gain(points[0], baseline) is None
    assert [gain(point, baseline) for point in points[1:]] == pytest.approx([0.05, 0.15])
    assert gain(points[0], []) is None


@pytest.mark.parametrize(
    "third_objective, values, expected",
    [
        (None, {}, [(0, 10)]),
        ("nonzero_params", {"nonzero_params": 10}, [(1, 10), (0, 10)]),
        ("seconds", {"seconds": 1.0}, [(1, 10), (0, 10)]),
        ("memory", {"peak_memory": 1}, [(1, 10), (0, 10)]),
        ("memory", {"peak_memory": 2, "seconds": 0.0, "nonzero_params": 0}, [(0, 10)]),  # as much
    ],
)
def test_third_objective_keeps_points_that_are_worse_in_the_others(third_objective, values, expected):
    better = trial(0, evaluation(10, 100, 0.9, peak_memory=2))
    worse = trial(1, evaluation(10, 100, 0.8, **{"peak_memory": 2} | values))
    points = front([better, worse], ObjectivesSpec(third_objective=third_objective))
    assert [(p.trial, p.step) for p in points] == expected


def test_the_earliest_of_points_equal_in_three_objectives_stays():
    objectives = ObjectivesSpec(third_objective="memory")
    equal = [trial(i, evaluation(10, 100, 0.9, peak_memory=5)) for i in range(3)]
    lighter = trial(3, evaluation(10, 100, 0.9, peak_memory=4))
    assert point_values(front(equal, objectives)) == [(0, 10, 100, 0.9)]
    assert point_values(front([*equal, lighter], objectives)) == [(3, 10, 100, 0.9)]


def test_front_agrees_with_the_definition():
    scattered = [((i * 37) % 997, ((i * 61) % 499) / 499) for i in range(500)]
    points = candidates([trial(i, *scattered[10 * i : 10 * i + 10]) for i in range(50)])
    expected = {
        (p.adapter_params, p.score)
        for p in points
        if not any(
            q.adapter_params <= p.adapter_params
            and q.score >= p.score
            and (q.adapter_params, q.score) != (p.adapter_params, p.score)
            for q in points
        )
    }
    actual = [(p.adapter_params, p.score) for p in non_dominated(points)]
    assert set(actual) == expected and len(actual) == len(expected) and actual == sorted(actual)
