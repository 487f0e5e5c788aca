"""The learning rate with the best score, and scores of several seeds as text."""

from __future__ import annotations

import statistics
from collections.abc import Callable

MIDDLE = 1e-3
FARTHEST = 3  # largest power of two, up and down


def tune(score: Callable[[float], float]) -> float:
    """Return the learning rate with the best score: powers of two times 1e-3 until both neighbors are worse."""
    scores: dict[int, float] = {}
    untried = [0, -1, 1]
    while untried:
        for power in untried:
            scores[power] = score(MIDDLE * 2.0**power)
        best = max(scores, key=lambda power: scores[power])
        untried = [p for p in (best - 1, best + 1) if p not in scores and abs(p) <= FARTHEST]
    return MIDDLE * 2.0**best


def spread(scores: list[float]) -> str:
    """Mean ± standard deviation, as text."""
    return f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"
