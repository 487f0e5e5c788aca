"""What samplers learn of a trial: the hypervolume that its curve dominates, as one number.

A trial's curve is all its evaluations with their slices; its value is the area under their front (ours). Samplers that
learn this one number need less training than those that learn the parameters and the score of one of the points
(docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from autorank.searching.early_stopping.policy import BEATEN
from autorank.spec import ObjectivesSpec
from autorank.training.evaluation import best
from autorank.trials.front import hypervolume, third_objective_value
from autorank.trials.limits import admitted, excesses
from autorank.trials.point import points_of
from autorank.trials.record import TrialRecord

MAX_RECENT_TRIALS = 200  # number of latest trials from which the value of stopped trials is predicted


def curve_value(trial: TrialRecord, objectives: ObjectivesSpec, reference: tuple[float, float], count: int) -> float:
    """Return the hypervolume of a trial's first evaluations and their slices.

    Args:
        trial: The trial.
        objectives: The limits; points beyond them are ignored.
        reference: The worst corner: parameters and score.
        count: Number of evaluations.

    Returns:
        A share of the box, from 0 to 1. If all points are beyond the limits, minus the least sum of their excesses.
    """
    points = [
        point
        for evaluation in trial.evaluations[:count]
        for point in points_of(trial, evaluation)
        if math.isfinite(point.score)
    ]
    within = [point for point in points if admitted(point, objectives)]
    if points and not within:
        return -min(sum(max(0.0, excess) for excess in excesses(point, objectives).values()) for point in points)
    return hypervolume(within, reference)


def learned_values(
    trial: TrialRecord, trials: Sequence[TrialRecord], objectives: ObjectivesSpec, reference: tuple[float, float]
) -> tuple[float, ...] | None:
    """Return what samplers learn of a trial that has ended.

    For a stopped trial, samplers learn the value that it was expected to reach: its own, plus what its method's
    complete trials gained (the median) after as many evaluations. A trial that was beaten reaches no more than the best
    complete trial. The third objective grows in proportion to theirs.

    Args:
        trial: The trial.
        trials: All trials of the search.
        objectives: The limits and the third objective.
        reference: The worst corner for hypervolumes: parameters and score.

    Returns:
        The curve's value and the third objective of the best evaluation, if there is one; None without a finite score.
    """
    top = best(trial.evaluations)
    if top is None:
        return None
    count, third_objective = len(trial.evaluations), objectives.third_objective
    value = curve_value(trial, objectives, reference, count)
    costs = [] if third_objective is None else [third_objective_value(top, third_objective)]
    if not trial.finished:
        peers = [
            other for other in trials[-MAX_RECENT_TRIALS:] if other.method == trial.method and other.state == "complete"
        ]
        values = [
            (curve_value(peer, objectives, reference, count), peer.sampler_values[0])
            for peer in peers
            if peer.sampler_values
        ]
        reached = value + median([final - sofar for sofar, final in values] or [0.0])
        best_value = max((final for _, final in values), default=reached)
        value = max(value, min(reached, best_value)) if trial.stop_reason == BEATEN else reached
        costs = [
            cost * median([_growth(peer, count, str(third_objective)) for peer in peers] or [1.0]) for cost in costs
        ]
    return value, *costs


def _growth(trial: TrialRecord, count: int, third_objective: str) -> float:
    """Growth factor of the third objective of a complete trial's best evaluation after `count` evaluations."""
    before, after = best(trial.evaluations[:count]), best(trial.evaluations)
    if before is None or after is None or not third_objective_value(before, third_objective):
        return 1.0
    return third_objective_value(after, third_objective) / third_objective_value(before, third_objective)
