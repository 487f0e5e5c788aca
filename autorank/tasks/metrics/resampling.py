"""Scores of resampled examples, for many models at once.

A resample is a weight for each example: how often it was drawn. Every score here is a function of weighted sums over
examples, except for Spearman's correlation, whose ranks are computed for each resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from autorank.tasks.metrics.outcomes import Outcomes

Array = npt.NDArray[np.float64]  # stands for any number type

ORDERS = 4  # BLEU's n-grams
MAX_WEIGHTS = 2**26  # numbers of draws in memory at a time, 256 MB
MIN_ROWS = 64  # resamples are drawn in multiples of this


def weights(splits: Sequence[int], draws: int, generator: np.random.Generator) -> np.ndarray:
    """Draw resamples of examples with replacement, within each split.

    Args:
        splits: Number of examples of each split.
        draws: Number of resamples.
        generator: Random numbers.

    Returns:
        How often each example was drawn, float32, `draws x examples`.
    """
    counts = np.empty((draws, sum(splits)), np.float32)
    for end, size in zip(accumulate(splits), splits, strict=True):
        for row in counts[:, end - size : end]:
            row[:] = np.bincount(generator.integers(size, size=size), minlength=size)
    return counts


def bootstrap_scores(models: Sequence[Outcomes], draws: int, generator: np.random.Generator) -> np.ndarray:
    """Compute the scores of models on resamples, as `resampled` with `weights`, in limited memory.

    Args:
        models: Outcomes on the same examples, in the same order.
        draws: Number of resamples.
        generator: Random numbers.

    Returns:
        Scores, `draws x models`.
    """
    splits = models[0].splits
    rows = max(MIN_ROWS, MAX_WEIGHTS // max(1, sum(splits)) // MIN_ROWS * MIN_ROWS)
    if draws <= rows:
        return resampled(models, weights(splits, draws, generator))
    # a copy for each split: `weights` draws all resamples of a split before those of the next
    generators = [generator]
    for size in splits[:-1]:
        generators.append(deepcopy(generators[-1]))
        for _ in range(draws):
            generators[-1].integers(size, size=size)
    scores = []
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = [weights([size], count, numbers) for size, numbers in zip(splits, generators, strict=True)]
        scores.append(resampled(models, np.concatenate(drawn, axis=1) if len(drawn) > 1 else drawn[0]))
    return np.concatenate(scores)


def resampled(models: Sequence[Outcomes], weights: np.ndarray) -> np.ndarray:
    """Compute the scores of models on resampled examples.

    Args:
        models: Outcomes on the same examples, in the same order.
        weights: How often each example was drawn, `draws x examples`.

    Returns:
        Scores, `draws x models`.
    """
    values = np.stack([model.values for model in models])
    return FORMULAS[models[0].formula](values, models[0].reference, weights)


def _sums(values: Array, weights: Array) -> Array:
    """Weighted sums over examples, `draws x models`.

    Args:
        values: Value of each example, `models x examples`.
        weights: How often each example was drawn, `draws x examples`.
    """
    sums: Array = weights @ values.astype(np.float32).T
    return sums


def _mean(values: Array, reference: Array, weights: Array) -> Array:
    mean: Array = _sums(values[..., 0], weights) / weights.sum(axis=1, keepdims=True)
    return mean


def _ratio(values: Array, reference: Array, weights: Array) -> Array:
    """A sum of the models' values over a sum of the reference's, such as right tokens over tokens."""
    return _sums(values[..., 0], weights) / _sums(reference[None, :, 0], weights)


def _likelihood(values: Array, reference: Array, weights: Array) -> Array:
    """exp(-loss): values are sums of losses over tokens, the reference is the number of tokens."""
    return np.exp(-_ratio(values, reference, weights))


def _accuracy(values: Array, reference: Array, weights: Array) -> Array:
    return _mean(values == reference, reference, weights)


def _f1(values: Array, reference: Array, weights: Array) -> Array:
    """F1 of class 1; 0 if it is neither predicted nor there."""
    predicted, actual = values[..., 0] == 1, reference[None, :, 0] == 1
    return _divided(2 * _sums(predicted & actual, weights), _sums(predicted, weights) + _sums(actual, weights))


def _recall(values: Array, reference: Array, weights: Array) -> Array:
    """Share of the examples of class 1 that are predicted to have it; 0 if there are none."""
    predicted, actual = values[..., 0] == 1, reference[None, :, 0] == 1
    return _divided(_sums(predicted & actual, weights), _sums(actual, weights))


def _balanced_accuracy(values: Array, reference: Array, weights: Array) -> Array:
    """Mean recall of the classes that are present."""
    classes = np.unique(reference)
    recalls = [_recall(values == label, reference == label, weights) for label in classes]
    present = [_sums((reference == label)[None, :, 0], weights) > 0 for label in classes]
    return _divided(np.sum(recalls, axis=0), np.sum(present, axis=0))


def _macro_f1_of_classes(values: Array, reference: Array, weights: Array) -> Array:
    """Mean F1 of the classes that are predicted or present."""
    classes = np.unique([*np.unique(values), *np.unique(reference)])
    scores = [_f1(values == label, reference == label, weights) for label in classes]
    counted = [
        _sums((values == label)[..., 0], weights) + _sums((reference == label)[None, :, 0], weights) > 0
        for label in classes
    ]
    return _divided(np.sum(scores, axis=0), np.sum(counted, axis=0))


def _matthews(values: Array, reference: Array, weights: Array) -> Array:
    """Matthews' correlation of K classes (Gorodkin 2004); 0 where it is undefined."""
    predicted, actual = values[..., 0], reference[None, :, 0]
    total = weights.sum(axis=1, keepdims=True).astype(np.float64)
    covariance = _sums(predicted == actual, weights) * total
    spread_predicted, spread_actual = total**2, total**2
    for label in np.unique(actual):
        counts = _sums(predicted == label, weights).astype(np.float64), _sums(actual == label, weights)
        covariance = covariance - counts[0] * counts[1]
        spread_actual = spread_actual - counts[1].astype(np.float64) ** 2
    for label in np.unique(predicted):
        spread_predicted = spread_predicted - _sums(predicted == label, weights).astype(np.float64) ** 2
    return _divided(covariance, np.sqrt(np.maximum(spread_predicted * spread_actual, 0)))


def _pearson(values: Array, reference: Array, weights: Array) -> Array:
    """Pearson's correlation; 0 where one side is constant."""
    x = _standardized(values[..., 0])
    y = _standardized(reference[None, :, 0])
    return _correlation(_sums(x, weights), _sums(y, weights), _sums(x * x, weights), _sums(y * y, weights),
                        _sums(x * y, weights), weights.sum(axis=1, keepdims=True))  # fmt: skip


def _spearman(values: Array, reference: Array, weights: Array) -> Array:
    """Spearman's correlation: Pearson's of the ranks within each resample, ties at their mean rank."""
    drawn = np.ascontiguousarray(weights.T)  # examples x draws: rows are reordered faster than columns
    actual = _Ranks(reference[:, 0], drawn)
    target = actual.of_examples
    covariances, spreads = [], []
    for predicted in values[..., 0]:
        ranks = _Ranks(predicted, drawn)
        covariances.append((ranks.summed(drawn * target) * ranks.of_groups).sum(axis=0))
        spreads.append(ranks.spread * actual.spread)
    return _divided(np.stack(covariances, axis=1), np.sqrt(np.stack(spreads, axis=1)))


class _Ranks:
    """Mean ranks within each resample, scaled and shifted to (-1, 1) around 0.

    Args:
        values: Value of each example, `examples`.
        drawn: How often each example was drawn, `examples x draws`.
    """

    def __init__(self, values: Array, drawn: Array) -> None:
        _, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.flatnonzero(np.diff(self._group[self._order], prepend=-1))
        counts = self.summed(drawn)
        self.of_groups = (2 * np.cumsum(counts, axis=0) - counts) / counts.sum(axis=0) - 1  # groups x draws
        self.spread = (counts * self.of_groups**2).sum(axis=0)  # draws

    def summed(self, terms: Array) -> Array:
        """Sums over each group of equal values, `groups x draws`."""
        sums: Array = np.add.reduceat(terms[self._order], self._starts, axis=0)
        return sums

    @property
    def of_examples(self) -> Array:
        """`examples x draws`."""
        ranks: Array = self.of_groups[self._group]
        return ranks


def _pearson_spearman(values: Array, reference: Array, weights: Array) -> Array:
    return (_pearson(values, reference, weights) + _spearman(values, reference, weights)) / 2


def _standardized(values: Array) -> Array:
    """Each model's values with mean 0 and deviation 1, so that single precision suffices; `models x examples`."""
    values = values.astype(np.float64)
    deviation = values.std(axis=1, keepdims=True)
    centered = values - values.mean(axis=1, keepdims=True)
    result: Array = np.divide(centered, deviation, out=np.zeros_like(centered), where=deviation > 0)
    return result


def _correlation(x: Array, y: Array, xx: Array, yy: Array, xy: Array, total: Array) -> Array:
    """Correlation from weighted sums, each `draws x models`."""
    x, y, xx, yy, xy = (term / total for term in (x, y, xx, yy, xy))
    spread = np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0)
    return _divided(xy - x * y, np.sqrt(np.where(spread < 1e-12, 0, spread)))


def _bleu(values: Array, reference: Array, weights: Array) -> Array:
    """Corpus BLEU (Papineni et al. 2002), precisions of 0 smoothed exponentially as in sacrebleu.

    Columns: right n-grams of each order, n-grams of each order, words of the text, words of the closest reference.
    """
    sums = np.stack([_sums(values[..., column], weights) for column in range(values.shape[-1])], axis=-1)
    right, total = sums[..., :ORDERS].astype(np.float64), sums[..., ORDERS : 2 * ORDERS].astype(np.float64)
    length, target = sums[..., 2 * ORDERS].astype(np.float64), sums[..., 2 * ORDERS + 1].astype(np.float64)
    smoothed = 1 / 2.0 ** np.cumsum(right == 0, axis=-1)
    precisions = _divided(np.where(right > 0, right, smoothed), total)
    with np.errstate(divide="ignore"):
        geometric = np.exp(np.log(precisions).mean(axis=-1))
    brevity = np.where(length < target, np.exp(1 - _divided(target, length)), 1.0)
    return np.where((total > 0).all(axis=-1) & (right > 0).any(axis=-1), brevity * geometric, 0.0)


def _micro_f1(values: Array, reference: Array, weights: Array) -> Array:
    """F1 over all pairs of example and class; columns are classes."""
    predicted, actual = values == 1, reference[None] == 1
    right, counts = (predicted & actual).sum(axis=-1), (predicted.sum(axis=-1), actual.sum(axis=-1))
    return _divided(2 * _sums(right, weights), _sums(counts[0], weights) + _sums(counts[1], weights))


def _macro_f1(values: Array, reference: Array, weights: Array) -> Array:
    """Mean F1 of the classes, which are the columns."""
    classes = range(reference.shape[1])
    mean: Array = np.mean([_f1(values[..., [i]], reference[:, [i]], weights) for i in classes], axis=0)
    return mean


def _subset_accuracy(values: Array, reference: Array, weights: Array) -> Array:
    """Share of examples all of whose classes are right."""
    return _mean((values == reference).all(axis=-1, keepdims=True), reference, weights)


def _divided(numerator: Array, denominator: Array) -> Array:
    """The quotient; 0 where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator > 0)


Formula = Callable[[Array, Array, Array], Array]
FORMULAS: dict[str, Formula] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "bleu": _bleu,
    "f1": _f1,
    "likelihood": _likelihood,
    "macro_f1": _macro_f1,
    "macro_f1_of_classes": _macro_f1_of_classes,
    "matthews": _matthews,
    "mean": _mean,
    "micro_f1": _micro_f1,
    "pearson": _pearson,
    "pearson_spearman": _pearson_spearman,
    "ratio": _ratio,
    "recall": _recall,
    "spearman": _spearman,
    "subset_accuracy": _subset_accuracy,
}
