"""Scores of points that were trained again with new seeds, and draws of their expected scores."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes
from autorank.tasks.metrics.resampling import bootstrap_scores, resampled
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import bootstrap, predictions
from autorank.trials.statistics.certainty import RESAMPLES, sample_of
from autorank.trials.statistics.seed_variance import correlation, draw_variances

DRAWS = 20 * RESAMPLES


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
    """Draw expected scores.

    Seeds and examples vary together (ours). Over seeds, the true means are normally distributed around the sample
    means, with variances that are drawn, too, and correlated between points of one training (`seed_variance.py`). Over
    examples, the mean over a point's seeds varies as in a paired bootstrap: all points and seeds are scored on the same
    resample. In each draw both deviations are added. Without predictions only seeds vary.

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


def varied(samples: Sequence[Measured]) -> str | None:
    """Return what `draws` draws over: seeds, examples, "seeds and examples", or nothing (None)."""
    seeds = ["seeds"] if max((len(sample.scores) for sample in samples), default=0) > 1 else []
    return " and ".join([*seeds, *(["examples"] if _models_on_same_examples(samples) else [])]) or None


def _models_on_same_examples(samples: Sequence[Measured]) -> list[Outcomes]:
    """The predictions of all seeds; none if some are missing, or not all are on the same examples."""
    models = [model for sample in samples for model in sample.models]
    complete = all(sample.models for sample in samples) and len({sample_of(model) for model in models}) == 1
    return models if complete else []


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
    models = _models_on_same_examples(samples)
    if not models:
        return None, np.zeros(len(samples))
    all_examples = np.ones((1, len(models[0])), np.float32)
    scores = bootstrap_scores(models, RESAMPLES, np.random.default_rng(0)) - resampled(models, all_examples)
    ends = np.cumsum([0, *(len(sample.models) for sample in samples)])
    parts = [scores[:, start:end] for start, end in pairwise(ends)]
    means = np.stack([part.mean(axis=1) for part in parts], axis=1)
    known = [part.var(axis=1, ddof=1).mean() if part.shape[1] > 1 else math.nan for part in parts]
    noise = np.nan_to_num(known, nan=np.nanmean(known) if not np.isnan(known).all() else 0.0)
    return means, noise
