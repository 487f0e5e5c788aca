"""Statistics of front points that were retrained with new seeds: mean scores, and how certain they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes
from autorank.tasks.metrics.resampling import bootstrap_scores, resampled
from autorank.trials.front import gain
from autorank.trials.point import Point, PointKey
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import bootstrap, predictions
from autorank.trials.statistics.certainty import RESAMPLES, sample_of
from autorank.trials.statistics.seed_variance import correlation, draw_variances

DRAWS = 20 * RESAMPLES


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

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.4f}"
        return f"{self.mean:.4f}{spread}" + (f" ({self.failed} failed)" if self.failed else "")


class Measured(NamedTuple):
    """Results of the new seeds: scores, mean of each minimized objective (parameters first), number of failures.

    `models` are the predictions of each seed; empty if some are missing. Points of one `training`, the adapter and its
    slices, share its seeds; None: a training of its own.
    """

    scores: np.ndarray
    costs: tuple[float, ...]
    failed: int
    models: tuple[Outcomes, ...] = ()
    training: Hashable = None

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return float(self.scores.mean())


def summarize(points: Sequence[Point], snapshot: Snapshot) -> dict[PointKey, Confirmed]:
    """Summarize the points that were retrained.

    Seeds and examples vary together (ours). Over seeds, the true means are normally distributed around the sample
    means, with variances that are drawn, too, and correlated between points of one training (`seed_variance.py`). Over
    examples, the mean over a point's seeds varies as in a paired bootstrap: all points and seeds are scored on the same
    resample. In each draw both deviations are added. Without predictions only seeds vary.

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
    tried = {tuple(key) for *key, _ in snapshot.confirmed}
    waiting = [point.adapter_params for point in snapshot.baseline if point.key not in tried]
    return {
        point.key: _describe(index, samples, baseline, drawn, front, min(waiting, default=math.inf))
        for index, (point, _) in enumerate(retrained)
    }


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
    better = None if best is None else float((drawn[:, index] > drawn[:, len(samples) + best]).mean())
    return replace(stats, on_front=float(front[:, index].mean()), low=low, high=high, better=better)


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


def measured(point: Point, snapshot: Snapshot) -> Measured | None:
    """Collect the results of a point's new seeds.

    Args:
        point: A point of a front.
        snapshot: Its search.

    Returns:
        The results of the seeds with a finite score; None if there are none.
    """
    all_results = [result for (*key, _), result in snapshot.confirmed.items() if tuple(key) == point.key]
    results = [result for result in all_results if math.isfinite(result.get("score", math.nan))]
    if not results:
        return None
    costs = ("adapter_params", *([snapshot.third_objective] if snapshot.third_objective else []))
    means = tuple(float(np.mean([result.get(cost, getattr(point, cost)) for result in results])) for cost in costs)
    return Measured(
        np.array([result["score"] for result in results]), means, len(all_results) - len(results),
        _models(point, snapshot), (snapshot.folder, point.trial, point.step),
    )  # fmt: skip


def _models(point: Point, snapshot: Snapshot) -> tuple[Outcomes, ...]:
    """The predictions of the seeds with a finite score; none if some are missing."""
    models = []
    for (*key, seed), result in snapshot.confirmed.items():
        if tuple(key) == point.key and math.isfinite(result.get("score", math.nan)) and snapshot.folder is not None:
            file = predictions.predictions_path(snapshot.folder, *point.key, seed)
            models.append(predictions.read(file, [result["score"]]))
    return tuple(model[0] for model in models) if all(models) else ()


def draws(samples: Sequence[Measured]) -> bootstrap.Array | None:
    """Draw expected scores, as `summarize` describes it.

    Args:
        samples: Points that were retrained.

    Returns:
        The scores, `draws x samples`; None if nothing is known about their deviations.
    """
    seeds = np.array([len(sample.scores) for sample in samples])
    examples, noise = _example_deviations(samples)
    if seeds.max(initial=0) < 2 and examples is None:
        return None
    random = np.random.default_rng(0)
    observed = np.array([sample.scores.var(ddof=1) if len(sample.scores) > 1 else 0.0 for sample in samples])
    variances = np.maximum(0.0, draw_variances(observed, seeds - 1.0, DRAWS, random) - noise)
    means: bootstrap.Array = np.array([sample.mean for sample in samples])
    scores: bootstrap.Array = means + np.sqrt(variances / seeds) * _seed_deviations(samples, random)
    if examples is not None:
        scores += np.tile(examples, (DRAWS // len(examples), 1))
    return scores


def _seed_deviations(samples: Sequence[Measured], random: np.random.Generator) -> bootstrap.Array:
    """Standard normal deviations, `draws x samples`, correlated between points of one training."""
    deviations: bootstrap.Array = random.standard_normal((DRAWS, len(samples)))
    trainings = [sample.training or index for index, sample in enumerate(samples)]
    pairs = [
        (samples[i].scores, samples[j].scores)
        for i, j in combinations(range(len(samples)), 2)
        if trainings[i] == trainings[j] and len(samples[i].scores) == len(samples[j].scores)
    ]
    if pairs:
        r = correlation(pairs)
        distinct = list(dict.fromkeys(trainings))
        common = random.standard_normal((DRAWS, len(distinct)))[:, [distinct.index(name) for name in trainings]]
        deviations = math.sqrt(1 - r) * deviations + math.sqrt(r) * common
    return deviations


def _example_deviations(samples: Sequence[Measured]) -> tuple[np.ndarray | None, np.ndarray]:
    """How the examples change the mean score of each sample, and the variance between its seeds.

    Returns:
        By how much the mean over the seeds differs on resampled examples, `resamples x samples`; None if predictions
        are missing, or not all are on the same examples. And the part of the variance between the seeds of each sample
        that comes from the examples, because models of different seeds err on different ones: the variance over seeds
        includes it, so it is subtracted there. Samples with one seed have the mean of the others.
    """
    models = [model for sample in samples for model in sample.models]
    if not models or not all(sample.models for sample in samples) or len({sample_of(m) for m in models}) > 1:
        return None, np.zeros(len(samples))
    all_examples = np.ones((1, len(models[0])), np.float32)
    scores = bootstrap_scores(models, RESAMPLES, np.random.default_rng(0)) - resampled(models, all_examples)
    ends = np.cumsum([0, *(len(sample.models) for sample in samples)])
    parts = [scores[:, start:end] for start, end in pairwise(ends)]
    means = np.stack([part.mean(axis=1) for part in parts], axis=1)
    known = [part.var(axis=1, ddof=1).mean() if part.shape[1] > 1 else math.nan for part in parts]
    noise = np.nan_to_num(known, nan=np.nanmean(known) if not np.isnan(known).all() else 0.0)
    return means, noise
