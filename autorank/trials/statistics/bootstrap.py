"""What resampled scores say about a front: intervals, membership, the knee, and the expected drop of the best score.

Scores are `draws x points`: those of the points on each resample of the examples. Points are in ascending order of
parameters; if two have equally many, the first counts as the smaller.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

INTERVAL_LEVEL = 0.9  # coverage of all intervals
MAX_RIVAL_DISTANCE_SD = 3.0  # deviations of a difference: points farther below the best do not compete with it (ours)


def interval(values: Array) -> tuple[float, float]:
    """The interval between the 5% and the 95% quantile (percentile bootstrap, Efron 1979).

    Args:
        values: Resampled values, `draws`.

    Returns:
        Its ends.
    """
    low, high = np.quantile(values, [(1 - INTERVAL_LEVEL) / 2, (1 + INTERVAL_LEVEL) / 2])
    return round(float(low), 7), round(float(high), 7)  # scores are computed in single precision


def on_front(scores: Array, costs: Array) -> npt.NDArray[np.bool_]:
    """Which points are on the front of each draw: no other point is at least as good in all, and better in one.

    Args:
        scores: Score of each point in each draw, `draws x points`.
        costs: Minimized objectives, `points x costs`.

    Returns:
        Membership of each point, bool, `draws x points`.
    """
    result = np.ones(scores.shape, bool)
    for index, cost in enumerate(costs):
        cheaper = (costs <= cost).all(axis=1) & (costs < cost).any(axis=1)
        equal = (costs == cost).all(axis=1)
        if cheaper.any():
            result[:, index] &= scores[:, index] > scores[:, cheaper].max(axis=1)
        result[:, index] &= scores[:, index] >= scores[:, equal].max(axis=1)
    return result


def contested(scores: Array, costs: Array) -> list[float]:
    """How much the membership of all points depends on the mean of each point (ours).

    A point whose membership has probability p has the weight p (1 - p): as much for itself as for its best rivals, the
    points of no higher costs that have the highest score in a draw, by the share of these draws.

    Args:
        scores: Score of each point in each draw, `draws x points`.
        costs: Minimized objectives, `points x costs`.

    Returns:
        The weight of each point.
    """
    probabilities = on_front(scores, costs).mean(axis=0)
    weights = np.zeros(len(costs))
    for index, (cost, probability) in enumerate(zip(costs, probabilities, strict=True)):
        weights[index] += probability * (1 - probability)
        rivals = np.flatnonzero((costs <= cost).all(axis=1) & (np.arange(len(costs)) != index))
        if len(rivals):
            best = rivals[scores[:, rivals].argmax(axis=1)]
            shares = np.bincount(best, minlength=len(costs)) / len(scores)
            weights += probability * (1 - probability) * shares
    return [float(weight) for weight in weights]


def knees(scores: Array, params: Array, front: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The knee of the front of each draw, as `trials.front.knee` defines it.

    Args:
        scores: Score of each point in each draw, `draws x points`.
        params: Adapter parameters in ascending order, `points`.
        front: Which points are on the front, `draws x points`.

    Returns:
        Index of the knee, `draws`.
    """
    sizes = np.broadcast_to(np.log10(np.maximum(params, 1)), scores.shape)
    height = np.where(front, np.round(_unit(scores, front) - _unit(sizes, front), 12), -np.inf)
    last = front.shape[1] - 1 - front[:, ::-1].argmax(axis=1)
    indices: npt.NDArray[np.intp] = np.where(height.max(axis=1) > 0, height.argmax(axis=1), last)
    return indices


def expected_drop(scores: Array, observed: Array) -> float:
    """By how much the best score is expected to drop on new examples, because it was selected as the best (ours).

    A bootstrap: the best point is selected on a resample, and its drop is its score there minus its true score. True
    scores are estimated by the observed ones, shrunk towards their mean (James and Stein 1961) by the share of their
    variance that is not noise. The observed scores differ more than the true ones and would give too small a drop.

    Args:
        scores: Score of each point in each draw, `draws x points`.
        observed: Scores on all examples, `points`.

    Returns:
        The expected drop, at least 0.
    """
    deviation = (scores - scores[:, [observed.argmax()]]).std(axis=0)
    close = observed >= observed.max() - MAX_RIVAL_DISTANCE_SD * deviation
    scores, observed = scores[:, close], observed[close]
    if len(observed) < 2:
        return 0.0
    noise = (scores - scores.mean(axis=1, keepdims=True)).var(axis=0).sum() / (len(observed) - 1)
    variance = observed.var(ddof=1)
    share = np.sqrt(max(0.0, 1 - noise / variance)) if variance > 0 else 0.0
    true = observed.mean() + share * (observed - observed.mean())
    drawn = scores - observed + true
    selected = drawn.argmax(axis=1)
    return max(0.0, float((drawn.max(axis=1) - true[selected]).mean()))


def _unit(values: Array, front: npt.NDArray[np.bool_]) -> Array:
    """Scaled to [0, 1] over the front of each draw; 0 where they do not differ."""
    low = np.where(front, values, np.inf).min(axis=1, keepdims=True)
    span = np.where(front, values, -np.inf).max(axis=1, keepdims=True) - low
    scaled: Array = np.divide(values - low, span, out=np.zeros(values.shape), where=span > 0)
    return scaled
