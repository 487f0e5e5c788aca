"""Limits: which points may be on a front."""

from __future__ import annotations

import pytest

from autorank.spec import ObjectivesSpec
from autorank.trials.front import NO_LIMITS, candidates, front
from autorank.trials.limits import excesses
from tests.trials.trial_factories import evaluation, sliced, trial


def test_a_larger_training_is_within_the_limit_with_its_slices():
    trials = [trial(0, sliced(10, 1000, 0.9, (10, 0.5), (100, 0.85)))]
    assert [(p.adapter_params, p.score) for p in front(trials, ObjectivesSpec(max_params=500))] == [
        (10, 0.5),
        (100, 0.85),
    ]


@pytest.mark.parametrize(
    "limits, params",
    [
        ({}, [10, 100, 1000]),
        ({"max_params": 100}, [10, 100]),  # the limit itself is allowed
        ({"max_params": 99}, [10]),
        ({"min_score": 0.7}, [100, 1000]),
        ({"min_score": 0.71}, [1000]),
        ({"max_memory": 100}, [10, 100]),
        ({"max_params": 100, "min_score": 0.7}, [100]),
        ({"max_params": 9}, []),
    ],
)
def test_limits(limits, params):
    trials = [trial(i, evaluation(10, 10**i, 0.4 + 0.15 * i, peak_memory=10**i)) for i in (1, 2, 3)]
    objectives = ObjectivesSpec(**limits)
    assert [p.adapter_params for p in front(trials, objectives)] == params
    assert [p.adapter_params for p in candidates(trials, objectives)] == params
    assert sum(p.knee for p in front(trials, objectives)) == bool(params)


def test_the_excess_over_limits():
    (point,) = candidates([trial(0, evaluation(10, 150, 0.5, peak_memory=80))])
    assert excesses(point, NO_LIMITS) == {}
    assert excesses(point, ObjectivesSpec(max_params=100, min_score=0.75, max_memory=100)) == pytest.approx(
        {"max_params": 0.5, "min_score": 0.25, "max_memory": -0.2}
    )
