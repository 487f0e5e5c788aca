"""What samplers learn from a trial, against areas worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autorank.searching.early_stopping.policy import BEATEN
from autorank.searching.sampling.curve_value import curve_value, learned_values
from autorank.spec import ObjectivesSpec
from autorank.trials.front import NO_LIMITS
from autorank.trials.record import TrialRecord
from tests.trials.trial_factories import sliced

BOX = (100.0, 0.0)


def trial(*evaluations, number=0, sampler_values=None, **values):
    return TrialRecord(number, "lora", {}, evaluations=evaluations, sampler_values=sampler_values, **values)


TRIAL = trial(sliced(1, 80, 0.5, (20, 0.4)), sliced(2, 80, 0.9, (10, 0.2), (40, 0.8)), finished=True)
FIRST_AREA, TOTAL_AREA = 0.6 * 0.4 + 0.2 * 0.5, 0.1 * 0.2 + 0.2 * 0.4 + 0.4 * 0.8 + 0.2 * 0.9


def test_the_value_is_the_area_under_all_evaluations_and_slices():
    assert curve_value(TRIAL, NO_LIMITS, BOX, 1) == pytest.approx(FIRST_AREA)
    assert curve_value(TRIAL, NO_LIMITS, BOX, 2) == pytest.approx(TOTAL_AREA)
    assert learned_values(TRIAL, [], NO_LIMITS, BOX) == (pytest.approx(TOTAL_AREA),)
    assert learned_values(trial(sliced(1, 80, float("nan"), (20, 0.4))), [], NO_LIMITS, BOX) is None


def test_points_beyond_a_limit_count_only_if_there_are_no_others():
    limits = ObjectivesSpec(max_params=50, min_score=0.3)
    assert curve_value(TRIAL, limits, BOX, 2) == pytest.approx(0.2 * 0.4 + 0.6 * 0.8)  # 20 and 40 parameters
    too_large = trial(sliced(1, 80, 0.5, (60, 0.2)))  # adapter: 0.6 over the limit; slice: 0.2 and 0.1
    assert curve_value(too_large, limits, BOX, 1) == pytest.approx(-0.3)


@pytest.mark.parametrize(("stop", "value"), [(None, 0.5 + TOTAL_AREA - FIRST_AREA), (BEATEN, TOTAL_AREA)])
def test_a_stopped_trial_has_the_value_that_it_was_expected_to_reach(stop, value):
    """It gains what complete trials gained after one evaluation; a beaten trial reaches at most the best of them."""
    peer = replace(TRIAL, number=1, state="complete", sampler_values=(TOTAL_AREA,))
    other_method = replace(peer, number=2, method="eva", sampler_values=(0.99,))
    stopped = trial(sliced(1, 50, 1.0), stop_reason=stop)
    assert learned_values(stopped, [peer, other_method, stopped], NO_LIMITS, BOX) == (pytest.approx(value),)
