"""Variance and correlation of scores over training seeds, of points with a few seeds each.

The variances are those of a hierarchical model.

Two or three seeds say little about the variance of one point, and points differ: at a high learning rate some seeds
fail. So the variances of all points are assumed to come from one distribution, whose width is estimated, too (the model
of Smyth 2004, "Linear models and empirical Bayes methods"; ours: its two parameters are not fixed at estimates, but
averaged over a grid by their likelihoods, because a front has few points).

    variance of point i      ~ degrees * center / chi-squared(degrees)
    sample variance of it    ~ variance of point i * chi-squared(freedom of i) / freedom of i

With many degrees all points have one variance; with few, each has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autorank.trials.statistics.bootstrap import Array

DEGREES = 2.0 ** np.arange(9)  # equally likely before any seed
CENTERS = np.geomspace(1e-6, 1e6, 121)  # times the mean sample variance; likewise
CORRELATION, CORRELATION_FREEDOM = 0.5, 4.0  # prior correlation between points of one training, and its weight (ours)


def draw_variances(variances: Array, freedoms: Array, draws: int, random: np.random.Generator) -> Array:
    """Draw the variance of each point given the sample variances of all.

    Args:
        variances: Sample variances, `points`; of points with one seed, any number.
        freedoms: Numbers of seeds minus one, `points`.
        draws: Number of draws.
        random: Generator.

    Returns:
        The variances, `draws x points`; 0 if all scores of each point are equal.
    """
    total = freedoms.sum()
    mean = float((variances * freedoms).sum() / total) if total else 0.0
    if mean == 0:
        return np.zeros((draws, len(variances)))
    squares = np.where(freedoms > 0, variances * freedoms, 0.0) / mean
    degrees, centers = (axis.ravel() for axis in np.meshgrid(DEGREES, CENTERS))
    likelihoods = _log_likelihoods(squares, freedoms, degrees, centers)
    probabilities = np.exp(likelihoods - likelihoods.max())
    chosen = random.choice(len(degrees), draws, p=probabilities / probabilities.sum())
    degrees, centers = degrees[chosen, None], centers[chosen, None]
    result: Array = mean * (degrees * centers + squares) / random.chisquare(degrees + freedoms)
    return result


def correlation(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Estimate the correlation between the scores of points of one training, which share its seeds (ours).

    Args:
        pairs: For each pair of such points their scores, `seeds` each, by seed.

    Returns:
        The correlation, pooled over the pairs and shrunk towards `CORRELATION`; from 0 to 1.
    """
    products, norms, freedom = 0.0, 0.0, 0
    for scores, other_scores in pairs:
        x, y = scores - scores.mean(), other_scores - other_scores.mean()
        products, norms, freedom = products + x @ y, norms + math.sqrt((x @ x) * (y @ y)), freedom + len(x) - 1
    if norms == 0:
        return CORRELATION
    pooled = (freedom * products / norms + CORRELATION_FREEDOM * CORRELATION) / (freedom + CORRELATION_FREEDOM)
    return float(np.clip(pooled, 0.0, 1.0))


def _log_likelihoods(squares: Array, freedoms: Array, degrees: Array, centers: Array) -> Array:
    """Log-likelihood of each (degrees, center) pair, up to a constant.

    Sample variances divided by the center follow an F distribution.
    """
    gamma = np.vectorize(math.lgamma)
    prior, freedom = (degrees * centers)[:, None], freedoms[None]
    terms = (
        gamma((degrees[:, None] + freedom) / 2) - gamma(degrees / 2)[:, None]
        - freedom / 2 * np.log(prior) - (degrees[:, None] + freedom) / 2 * np.log1p(squares / prior)
    )  # fmt: skip
    total: Array = terms.sum(axis=1)
    return total
