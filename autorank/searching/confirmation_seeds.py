"""Which training of a front's points is repeated next: the one whose new seed tells most about who is on the front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

START = 3  # seeds of every training, before the others are spent where the front is open (ours)
MOST = 2  # times the mean number of seeds, for one training (ours)

T = TypeVar("T")


def equal_seeds(seeds: int) -> int:
    """Return how many seeds every training gets before the others are spent where the front is open.

    Args:
        seeds: mean number of seeds of a training.

    Returns:
        At most `START`; one less than `seeds`, but at least two if there are two.
    """
    return min(seeds, max(2, min(START, seeds - 1)))


def next_training(counts: Mapping[T, int], contested: Mapping[T, float], seeds: int) -> T | None:
    """Choose the training that gets the next seed (ours).

    It is the one with the largest `contested` weight, divided by n (n + 1): by that factor a further seed lowers the
    variance of a mean of n seeds.

    Args:
        counts: training -> seeds so far, at least `equal_seeds`, those that are running included.
        contested: training -> weight, see `bootstrap.contested`.
        seeds: mean number of seeds of a training; the product with the number of trainings is never exceeded.

    Returns:
        The training; None if no seeds are left, or no point's membership is open.
    """
    if sum(counts.values()) >= seeds * len(counts):
        return None
    values = {
        training: contested.get(training, 0.0) / (count * (count + 1))
        for training, count in counts.items()
        if count < MOST * seeds
    }
    best = max(values, key=lambda training: values[training], default=None)
    return best if best is not None and values[best] > 0 else None
