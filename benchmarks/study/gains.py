"""Hypervolume and score that a front adds to another, measured with new seeds.

A front is a choice: for each number of parameters that one may spend, the point with the highest score in the search
(on held-out training examples). The scores of the new seeds (on the validation split) do not change the choice. So the
area under them is an unbiased estimate, is linear in the scores, and may be negative. The maximum over new scores would
be too large by chance, and would grow with every point that is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from autorank.trials.point import Point
from autorank.trials.statistics.bootstrap import interval
from autorank.trials.statistics.retrained_scores import Measured, draws


class Retrained(NamedTuple):
    """A point of a front and the results of its new seeds."""

    point: Point
    sample: Measured


@dataclass(frozen=True)
class Difference:
    """A difference between fronts. `low` and `high` are its 90% interval, over seeds and examples.

    `better` is the probability that it is above 0. They are None if nothing is known about deviations.
    """

    value: float
    low: float | None = None
    high: float | None = None
    better: float | None = None


def added_hypervolume(
    method_front: Sequence[Retrained], baseline: Sequence[Retrained], max_params: float
) -> Difference:
    """Hypervolume that points add to the front of a baseline.

    Args:
        method_front: The front of a method.
        baseline: The front of the baseline.
        max_params: Parameters at the end of the box, which begins at 0; scores in it are from 0 to 1.

    Returns:
        The difference between the hypervolume of both fronts together and that of the baseline's.
    """
    together = [*baseline, *method_front]  # of equal scores, the baseline's
    weights = shares(together, 0.0, max_params)
    weights[: len(baseline)] -= shares(baseline, 0.0, max_params)
    return _difference(together, weights)


def mean_gain(method_front: Sequence[Retrained], baseline: Sequence[Retrained]) -> Difference:
    """Mean difference of two fronts over the logarithm of the parameters, from where both have begun.

    Args:
        method_front: The front of a method.
        baseline: The front of the baseline.

    Returns:
        The difference of scores.
    """
    low = max(min(entry.point.adapter_params for entry in front) for front in (method_front, baseline))
    high = max(entry.point.adapter_params for entry in [*method_front, *baseline])
    weights = np.concatenate([-shares(baseline, low, high, math.log), shares(method_front, low, high, math.log)])
    return _difference([*baseline, *method_front], weights)


def gain(entry: Retrained, baseline: Sequence[Retrained]) -> Difference | None:
    """Score of a point above that of the baseline's point with at most as many parameters; None without one."""
    smaller = [candidate for candidate in baseline if candidate.point.adapter_params <= entry.point.adapter_params]
    if not smaller:
        return None
    chosen = max(smaller, key=lambda candidate: candidate.point.score)
    return _difference([chosen, entry], np.array([-1.0, 1.0]))


def shares(front: Sequence[Retrained], low: float, high: float, scale: Callable[[float], float] = float) -> np.ndarray:
    """The share of a range of budgets in which each point is chosen.

    Args:
        front: Points.
        low: The smallest budget, in parameters.
        high: The largest budget.
        scale: Scale on which the share is measured.

    Returns:
        A share for each point. They add up to 1, or less if no point is as small as `low`.
    """
    result = np.zeros(len(front))
    if high <= low:  # a single budget
        affordable = [i for i, entry in enumerate(front) if entry.point.adapter_params <= low]
        result[max(affordable, key=lambda i: front[i].point.score)] = 1.0
        return result
    sizes = {float(entry.point.adapter_params) for entry in front}
    edges = [low, *sorted(size for size in sizes if low < size < high), high]
    for start, end in pairwise(edges):
        affordable = [i for i, entry in enumerate(front) if entry.point.adapter_params <= start]
        if affordable:
            best = max(affordable, key=lambda i: front[i].point.score)
            result[best] += (scale(end) - scale(start)) / (scale(high) - scale(low))
    return result


def _difference(front: Sequence[Retrained], weights: np.ndarray) -> Difference:
    samples = [entry.sample for entry in front]
    value = float(weights @ np.array([sample.mean for sample in samples]))
    resampled = draws(samples)
    if resampled is None:
        return Difference(value)
    values = resampled @ weights
    return Difference(value, *interval(values), float((values > 0).mean()))
