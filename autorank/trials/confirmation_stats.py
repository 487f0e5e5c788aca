"""Statistics of front points that were retrained with new seeds: mean score and probability of being on the front."""

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
    """Statistics of one retrained point.

    Attributes:
        seeds: number of seeds with a finite score; the other statistics use these seeds.
        failed: number of seeds without a finite score.
        mean: mean score.
        sd: sample standard deviation of the scores; None with one seed.
        on_front: probability of being on the front; None if every point has one seed.
        adapter_params: mean number of adapter parameters; differs from the point's if the size depends on the seed.
        gain_over_baseline: mean score minus the best mean of plain LoRA with no more parameters; None without one.
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
    """Results of the new seeds: scores, mean of each minimized objective (parameters first), number of failures."""

    scores: np.ndarray
    costs: tuple[float, ...]
    failed: int

    @property
    def mean(self) -> float:
        return float(self.scores.mean())


def summarise(points: Sequence[Point], snapshot: Snapshot) -> dict[tuple[int, int, int], Confirmed]:
    """Summarise the points that were retrained.

    Probability of being on the front (ours): the true means follow a multivariate Student's t distribution around the
    sample means, with the pooled variance and its degrees of freedom. In each Monte Carlo draw, a point is on the front
    if no point with at most its costs (parameters and the third objective) has a higher mean.

    Args:
        points: points of a front.
        snapshot: the search, with the results of the new seeds.

    Returns:
        Key of each retrained point -> its statistics.
    """
    measured = [(point, sample) for point in points if (sample := _measured(point, snapshot))]
    baseline = [sample for point in snapshot.baseline if (sample := _measured(point, snapshot))]
    chances = _on_front([sample for _, sample in measured])
    return {
        point.key: Confirmed(
            len(sample.scores),
            sample.failed,
            sample.mean,
            float(sample.scores.std(ddof=1)) if len(sample.scores) > 1 else None,
            chance,
            sample.costs[0],
            _gain(sample, baseline),
        )
        for (point, sample), chance in zip(measured, chances, strict=True)
    }


def best_gain(point: Point, snapshot: Snapshot, confirmed: Confirmed | None) -> float | None:
    """Score gain over plain LoRA with no more parameters.

    The scores of the new seeds are preferred: scores of a search are biased upwards by selection.

    Args:
        point: a point of the front.
        snapshot: the search.
        confirmed: statistics of the point; None if it was not retrained.

    Returns:
        The gain in score; None if plain LoRA has no point that small.
    """
    return gain(point, snapshot.baseline) if confirmed is None else confirmed.gain_over_baseline


def _measured(point: Point, snapshot: Snapshot) -> Measured | None:
    """Results of the seeds with a finite score; None if every seed failed."""
    everything = [result for (*key, _), result in snapshot.confirmed.items() if tuple(key) == point.key]
    results = [result for result in everything if math.isfinite(result.get("score", math.nan))]
    if not results:
        return None
    costs = ("adapter_params", *([snapshot.third] if snapshot.third else []))
    means = tuple(float(np.mean([result.get(cost, getattr(point, cost)) for result in results])) for cost in costs)
    return Measured(np.array([result["score"] for result in results]), means, len(everything) - len(results))


def _gain(sample: Measured, baseline: Sequence[Measured]) -> float | None:
    means = [other.mean for other in baseline if other.costs[0] <= sample.costs[0]]
    return sample.mean - max(means) if means else None


def _on_front(measured: Sequence[Measured]) -> Sequence[float | None]:
    freedom = sum(len(sample.scores) - 1 for sample in measured)
    if freedom < 1:
        return [None] * len(measured)
    pooled = math.sqrt(sum(float(((sample.scores - sample.mean) ** 2).sum()) for sample in measured) / freedom)
    scale = pooled / np.sqrt([len(sample.scores) for sample in measured])
    draw = np.random.default_rng(0)
    spread = draw.standard_normal((DRAWS, len(measured))) / np.sqrt(draw.chisquare(freedom, (DRAWS, 1)) / freedom)
    drawn = np.array([sample.mean for sample in measured]) + scale * spread  # draws x points
    costs = np.array([sample.costs for sample in measured])  # points x minimized objectives
    rivals = np.all(costs[None, :] <= costs[:, None], axis=2)  # points x points: which points cost no more
    return [float((drawn[:, i] >= drawn[:, rivals[i]].max(axis=1)).mean()) for i in range(len(measured))]
