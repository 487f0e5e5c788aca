"""Statistics of front points that were retrained with new seeds: mean scores, and how certain they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autorank.errors import DIVERGED
from autorank.trials.front import gain
from autorank.trials.point import Point, PointKey
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import bootstrap
from autorank.trials.statistics.retrained_scores import Measured, draws, measured, varied


@dataclass(frozen=True)
class Confirmed:
    """Statistics of one retrained point.

    Attributes:
        seeds: Number of seeds with a finite score; the other statistics use these seeds.
        failed: Number of seeds without a finite score.
        mean: Mean score.
        sd: Sample standard deviation of the scores; None with one seed.
        on_front: Probability of being on the front; None if every point has one seed, and predictions are missing.
        adapter_params: Mean number of adapter parameters; differs from the point's if the size depends on the seed.
        gain_over_baseline: Mean score minus the best mean of plain LoRA with no more parameters; None without one, or
            while one of these points was not retrained.
        low, high: Interval that contains the expected score with 90%; at most 1 if all mean scores are. None where
            `on_front` is.
        better: Probability that the gain over the baseline is above 0; None without a gain or interval.
        gain_low, gain_high: Interval that contains the gain with 90%; None where `better` is.
        varied: What intervals and probabilities are over: seeds, examples, or both; None without them.
    """

    seeds: int
    failed: int
    mean: float
    sd: float | None
    on_front: float | None
    adapter_params: float
    gain_over_baseline: float | None
    low: float | None = None
    high: float | None = None
    better: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    varied: str | None = None

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.4f}"
        return f"{self.mean:.4f}{spread}" + (f" ({self.failed} failed)" if self.failed else "")


def summarize(points: Sequence[Point], snapshot: Snapshot) -> dict[PointKey, Confirmed]:
    """Summarize the points that were retrained; `retrained_scores.draws` describes the intervals and probabilities.

    Args:
        points: Points of a front.
        snapshot: The search, with the results of the new seeds.

    Returns:
        Key of each retrained point -> its statistics.
    """
    retrained = [(point, sample) for point in points if (sample := measured(point, snapshot))]
    baseline = [sample for point in snapshot.baseline if (sample := measured(point, snapshot))]
    samples = [sample for _, sample in retrained]
    drawn = draws([*samples, *baseline])
    front = None
    if drawn is not None:
        front = bootstrap.on_front(drawn[:, : len(samples)], np.array([sample.costs for sample in samples]))
    tried = {tuple(key) for (*key, _), result in snapshot.confirmed.items() if _is_result(result)}
    waiting = [point.adapter_params for point in snapshot.baseline if point.key not in tried]
    return {
        point.key: _describe(index, samples, baseline, drawn, front, min(waiting, default=math.inf))
        for index, (point, _) in enumerate(retrained)
    }


def _is_result(result: Mapping[str, Any]) -> bool:
    """Whether a training has a score, or would diverge again; others failed for reasons outside of it."""
    return "score" in result or str(result.get("failed", "")).startswith(DIVERGED)


def contested(points: Sequence[Point], snapshot: Snapshot) -> dict[PointKey, float]:
    """How much the front depends on the means of points that were retrained; see `bootstrap.contested`.

    Args:
        points: Points of a front.
        snapshot: The search, with the results of the new seeds.

    Returns:
        Key of each retrained point -> weight; empty if nothing is known about their deviations.
    """
    retrained = [(point, sample) for point in points if (sample := measured(point, snapshot))]
    samples = [sample for _, sample in retrained]
    drawn = draws(samples)
    if drawn is None:
        return {}
    weights = bootstrap.contested(drawn, np.array([sample.costs for sample in samples]))
    return {point.key: weight for (point, _), weight in zip(retrained, weights, strict=True)}


def _describe(
    index: int, samples: Sequence[Measured], baseline: Sequence[Measured], drawn: np.ndarray | None,
    front: np.ndarray | None, waiting: float,
) -> Confirmed:  # fmt: skip
    """The statistics of one point; without a gain if a point of the baseline as small waits for its new seeds.

    `waiting` are the fewest parameters of these.
    """
    sample = samples[index]
    smaller = [i for i, other in enumerate(baseline) if other.costs[0] <= sample.costs[0] < waiting]
    best = max(smaller, key=lambda i: baseline[i].mean, default=None)
    stats = Confirmed(
        seeds=len(sample.scores),
        failed=sample.failed,
        mean=sample.mean,
        sd=float(sample.scores.std(ddof=1)) if len(sample.scores) > 1 else None,
        on_front=None,
        adapter_params=sample.costs[0],
        gain_over_baseline=None if best is None else sample.mean - baseline[best].mean,
    )
    if drawn is None or front is None:
        return stats
    low, high = bootstrap.interval(drawn[:, index])
    if max(other.scores.max() for other in samples) <= 1:  # the user's own metrics may be above 1
        high = min(high, 1.0)
    stats = replace(
        stats, on_front=float(front[:, index].mean()), low=low, high=high, varied=varied([*samples, *baseline])
    )
    if best is None:
        return stats
    gains = drawn[:, index] - drawn[:, len(samples) + best]
    gain_low, gain_high = bootstrap.interval(gains)
    return replace(stats, better=float((gains > 0).mean()), gain_low=gain_low, gain_high=gain_high)


def best_gain(point: Point, snapshot: Snapshot, confirmed: Confirmed | None) -> float | None:
    """Score gain over plain LoRA with no more parameters.

    The scores of the new seeds are preferred, because scores of a search are biased upwards by selection. They are used
    once all points of plain LoRA with no more parameters have them.

    Args:
        point: A point of the front.
        snapshot: The search.
        confirmed: Statistics of the point; None if it was not retrained.

    Returns:
        The gain in score; None if plain LoRA has no point that small.
    """
    if confirmed is None or confirmed.gain_over_baseline is None:
        return gain(point, snapshot.baseline)
    return confirmed.gain_over_baseline
