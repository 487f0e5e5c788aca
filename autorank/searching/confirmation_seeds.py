"""Chooses which points of a front are retrained with further seeds: those that may or may not belong to the front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

FIRST_SEEDS = 3  # seeds of every training; further ones go to points that may or may not be on the front (ours)
MAX_FACTOR = 2  # maximum number of seeds of a training, as a multiple of the mean (ours)

T = TypeVar("T")


def equal_seeds(seeds: int) -> int:
    """Return how many seeds every training gets before others are distributed by `next_training`.

    Args:
        seeds: Mean number of seeds of a training.

    Returns:
        At most `FIRST_SEEDS`; one less than `seeds`, but at least two if there are two.
    """
    return min(seeds, max(2, min(FIRST_SEEDS, seeds - 1)))


def next_training(counts: Mapping[T, int], contested: Mapping[T, float], seeds: int) -> T | None:
    """Choose the training that gets the next seed (ours).

    It is the training with the largest `contested` weight divided by n (n + 1), because a further seed lowers the
    variance of a mean of n seeds in proportion to 1 / (n (n + 1)).

    Args:
        counts: Training -> number of seeds, including running ones; at least `equal_seeds`.
        contested: Training -> weight, see `bootstrap.contested`.
        seeds: Mean number of seeds of a training; the product with the number of trainings is never exceeded.

    Returns:
        The training; None if no seeds are left, or the membership of all points is certain.
    """
    if sum(counts.values()) >= seeds * len(counts):
        return None
    values = {
        training: contested.get(training, 0.0) / (count * (count + 1))
        for training, count in counts.items()
        if count < MAX_FACTOR * seeds
    }
    best = max(values, key=lambda training: values[training], default=None)
    return best if best is not None and values[best] > 0 else None
