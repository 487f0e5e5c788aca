"""Which point of a front is chosen, and the message if none fits."""

from __future__ import annotations

import pytest

from autorank.errors import AutorankError
from autorank.spec import ObjectivesSpec
from autorank.trials.front import candidates, front
from autorank.trials.selection import pick
from tests.trials.trial_factories import evaluation, point_values, sliced, trial


@pytest.fixture
def points():
    return front([trial(0, (10, 0.5)), trial(1, (100, 0.8)), trial(2, (1000, 0.85)), trial(7, (10000, 0.9))])


@pytest.mark.parametrize(
    "requirements, params",
    [
        ({}, 100),  # the knee
        ({"max_params": 5000}, 1000),
        ({"max_params": 1000}, 1000),
        ({"min_score": 0.82}, 1000),
        ({"min_score": 0.6, "max_params": 5000}, 100),
        ({"trial": 7}, 10000),
    ],
)
def test_pick(points, requirements, params):
    assert pick(points, **requirements).adapter_params == params


def test_pick_from_all_candidates_takes_a_trial_s_best():
    all_points = candidates([trial(0, (100, 0.7), (100, 0.9), (50, 0.9), (10, 0.1)), trial(1, (1, 0.95))])
    assert pick(all_points, trial=0).step == 30
    assert pick(all_points, trial=0, step=10).score == 0.7
    with pytest.raises(AutorankError, match=r"no point at step 11\. Available steps: 10, 20, 30, 40"):
        pick(all_points, trial=0, step=11)


@pytest.mark.parametrize(
    "requirements, message",
    [
        ({"max_params": 9}, "at most 9 parameters; the smallest has 10"),
        ({"min_score": 0.95}, "scores at least 0.95; the best score is 0.9000"),
        (
            {"min_score": 0.85, "max_params": 500},
            "at most 500 parameters scores at least 0.85; the best score is 0.80",
        ),
        ({"trial": 3}, "Trial 3 has no point that can be chosen. Trials with points: 0, 1, 2, 7"),
    ],
)
def test_pick_reports_the_available_points(points, requirements, message):
    with pytest.raises(AutorankError, match=message):
        pick(points, **requirements)


def test_pick_of_a_trial_s_sizes():
    all_points = candidates([trial(0, (9, 0.1), sliced(20, 1000, 0.9, (10, 0.5), (100, 0.85))), trial(1, (1, 0.95))])
    assert pick(all_points, trial=0).key == (0, 20, 1000)
    assert pick(all_points, trial=0, step=20, max_params=100).key == (0, 20, 100)
    assert pick(all_points, trial=0, min_score=0.4).key == (0, 20, 10)
    with pytest.raises(AutorankError, match=r"smallest has 10\. Available sizes: 10; 100; 1,000\."):
        pick(all_points, trial=0, step=20, max_params=9)


def test_pick_takes_the_knee_that_is_marked():
    # the one in between is on the front for its time alone: among three it is not a bend, without it there is none
    slow, fast, large = evaluation(10, 10, 0.8), evaluation(10, 100, 0.5, seconds=1.0), evaluation(10, 1000, 0.9)
    points = front([trial(0, slow), trial(1, fast), trial(2, large)], ObjectivesSpec(third_objective="seconds"))
    assert point_values(points) == [(0, 10, 10, 0.8), (1, 10, 100, 0.5), (2, 10, 1000, 0.9)]
    assert [p.knee for p in points] == [True, False, False]
    assert pick(points) is points[0]
    assert pick(candidates([trial(0, slow), trial(1, fast), trial(2, large)])).adapter_params == 1000


def test_pick_takes_the_smallest_that_is_better_than_the_baseline_with_a_probability():
    points = front([trial(0, (10, 0.5)), trial(1, (20, 0.6)), trial(2, (30, 0.7))])
    better = {(1, 10, 20): 0.92, (2, 10, 30): 0.99}  # the smallest has no baseline as small
    assert pick(points, min_gain_probability=0.9, better=better).trial == 1
    assert pick(points, min_gain_probability=0.95, better=better).trial == 2
    assert pick(points, min_gain_probability=0.9, min_score=0.65, better=better).trial == 2
    with pytest.raises(AutorankError, match=r"probability of at least 0\.995; the highest is 0\.99"):
        pick(points, min_gain_probability=0.995, better=better)
    with pytest.raises(AutorankError, match="No point here has both: search with --baseline"):
        pick(points, min_gain_probability=0.5, better={})


def test_pick_without_points_is_an_error():
    with pytest.raises(AutorankError, match="no evaluation"):
        pick([], max_params=10)
