"""Points of a front trained again with fresh seeds: how well they do then, and how sure it is that they are on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from autorank.trials.front import Point, gain
from autorank.trials.snapshot import Snapshot

DRAWS = 20_000


@dataclass(frozen=True)
class Confirmed:
    """Of one point.

    Attributes:
        seeds: those that came to a finite score; what follows is of them.
        failed: seeds that did not.
        sd: of the scores; None with one seed.
        on_front: a probability; None without any spread.
        adapter_params: their mean; not the point's where a method's sizes depend on the seed.
        gain_over_baseline: of the mean over the best of plain LoRA's with no more parameters; None where there is none.
    """

    seeds: int
    failed: int
    mean: float
    sd: float | None
    on_front: float | None
    adapter_params: float
    gain_over_baseline: float | None

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.4f}"
        return f"{self.mean:.4f}{spread}" + (f" ({self.failed} failed)" if self.failed else "")


class Measured(NamedTuple):
    """What fresh seeds came to: scores by seed; means of what is to be small, parameters first; how many failed."""

    scores: np.ndarray
    costs: tuple[float, ...]
    failed: int

    @property
    def mean(self) -> float:
        return float(self.scores.mean())


def summarise(points: Sequence[Point], snapshot: Snapshot) -> dict[tuple[int, int, int], Confirmed]:
    """Key of a point -> what is known of it, for those of `points` that were trained again.

    The probability of being on the front (ours): around the means of their scores the true ones have a multivariate
    Student's t, as all share the pooled variance (with as many degrees of freedom as all scores have). A point is on
    the front of a draw if none has a higher mean that costs no more: parameters, and the third objective.
    """
    measured = [(point, found) for point in points if (found := _measured(point, snapshot))]
    baseline = [found for point in snapshot.baseline if (found := _measured(point, snapshot))]
    chances = _on_front([found for _, found in measured])
    return {
        point.key: Confirmed(
            len(found.scores),
            found.failed,
            found.mean,
            float(found.scores.std(ddof=1)) if len(found.scores) > 1 else None,
            chance,
            found.costs[0],
            _above(found, baseline),
        )
        for (point, found), chance in zip(measured, chances, strict=True)
    }


def best_gain(point: Point, snapshot: Snapshot, confirmed: Confirmed | None) -> float | None:
    """Score above plain LoRA with no more parameters, by fresh seeds where there are any: those of a search are the
    luckiest of many."""
    return gain(point, snapshot.baseline) if confirmed is None else confirmed.gain_over_baseline


def _measured(point: Point, snapshot: Snapshot) -> Measured | None:
    """Of the seeds that came to a finite score; None if none did."""
    everything = [result for (*key, _), result in snapshot.confirmed.items() if tuple(key) == point.key]
    results = [result for result in everything if math.isfinite(result.get("score", math.nan))]
    if not results:
        return None
    costs = ("adapter_params", *([snapshot.third] if snapshot.third else []))
    means = tuple(float(np.mean([result.get(cost, getattr(point, cost)) for result in results])) for cost in costs)
    return Measured(np.array([result["score"] for result in results]), means, len(everything) - len(results))


def _above(found: Measured, baseline: Sequence[Measured]) -> float | None:
    means = [other.mean for other in baseline if other.costs[0] <= found.costs[0]]
    return found.mean - max(means) if means else None


def _on_front(measured: Sequence[Measured]) -> Sequence[float | None]:
    freedom = sum(len(each.scores) - 1 for each in measured)
    if freedom < 1:
        return [None] * len(measured)
    pooled = math.sqrt(sum(float(((each.scores - each.mean) ** 2).sum()) for each in measured) / freedom)
    scale = pooled / np.sqrt([len(each.scores) for each in measured])
    draw = np.random.default_rng(0)
    spread = draw.standard_normal((DRAWS, len(measured))) / np.sqrt(draw.chisquare(freedom, (DRAWS, 1)) / freedom)
    drawn = np.array([each.mean for each in measured]) + scale * spread  # draws x points
    costs = np.array([each.costs for each in measured])  # points x what is to be small
    rivals = np.all(costs[None, :] <= costs[:, None], axis=2)  # of each point: itself, and all that cost no more
    return [float((drawn[:, i] >= drawn[:, rivals[i]].max(axis=1)).mean()) for i in range(len(measured))]
