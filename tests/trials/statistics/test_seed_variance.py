"""Variances over seeds, against the distributions of the model and of simulated trainings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from autorank.trials.statistics.bootstrap import Array
from autorank.trials.statistics.seed_variance import _log_likelihoods, correlation, draw_variances

DRAWS = 20_000


def variance_draws(variances: list[float], freedoms: list[int]) -> Array:
    random = np.random.default_rng(0)
    return draw_variances(np.array(variances), np.array(freedoms, dtype=float), DRAWS, random)


def test_the_likelihood_is_that_of_the_f_distribution() -> None:
    """Constants cancel in the difference between two parameters."""
    variances, freedoms = np.array([0.4, 2.0, 0.1]), np.array([1.0, 2.0, 4.0])
    degrees, centers = np.array([2.0, 8.0]), np.array([0.5, 3.0])
    expected = [
        stats.f.logpdf(variances / center, freedoms, degree).sum() - 3 * np.log(center)
        for degree, center in zip(degrees, centers, strict=True)
    ]
    actual = _log_likelihoods(variances * freedoms, freedoms, degrees, centers)
    assert actual[0] - actual[1] == pytest.approx(expected[0] - expected[1])


def test_one_point_has_its_own_distribution() -> None:
    """Sum of squares over chi-squared, the posterior with a flat prior of the logarithm."""
    values = variance_draws([4.0], [3])[:, 0]
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile(values, quantile) == pytest.approx(12 / stats.chi2.ppf(1 - quantile, 3), rel=0.06)


def test_equal_variances_are_pooled() -> None:
    freedoms = 20 * [2]
    variances = list(stats.chi2.ppf((np.arange(20) + 0.5) / 20, 2) / 2)  # what 20 points with variance 1 have
    pooled, alone = variance_draws(variances, freedoms), variance_draws([variances[0]], [2])
    assert 0.75 < pooled[:, 0].mean() < pooled[:, -1].mean() < 1.5
    assert np.median(alone) < 0.1


def test_a_point_whose_seeds_fail_does_not_widen_the_others() -> None:
    values = variance_draws([0.04, *7 * [1e-4]], 8 * [2])
    assert np.median(values[:, 0]) > 0.02 and np.median(values[:, 1]) < 3e-4


def test_a_point_with_one_seed_is_like_any_other() -> None:
    values = variance_draws([0.0, 1.0, 1.2, 0.8, 1.1, 0.9, 1.0], [0, 8, 8, 8, 8, 8, 8])
    assert np.median(values[:, 0]) == pytest.approx(1, abs=0.1)


def test_equal_scores_have_no_variance() -> None:
    assert (variance_draws([0.0, 0.0], [2, 2]) == 0).all() and (variance_draws([1.0], [0]) == 0).all()


@pytest.mark.parametrize("true_correlation", [0.0, 0.9])
def test_the_correlation_is_pooled_and_shrunk(true_correlation: float) -> None:
    random = np.random.default_rng(0)
    covariance = [[1, true_correlation], [true_correlation, 1]]
    pairs = [tuple(random.multivariate_normal([0.7, 0.8], covariance, 3).T) for _ in range(400)]
    assert correlation(pairs) == pytest.approx(true_correlation, abs=0.06)
    few = [correlation(pairs[i : i + 2]) for i in range(0, 400, 2)]
    assert abs(np.mean(few) - (0.5 + true_correlation) / 2) < 0.06 and 0 <= min(few) <= max(few) <= 1


def test_without_deviations_the_correlation_is_the_prior_one() -> None:
    assert correlation([]) == correlation([(np.ones(3), np.arange(3.0))]) == 0.5


@pytest.mark.parametrize("failing", [0.0, 0.3])
def test_intervals_of_means_have_their_nominal_coverage(failing: float) -> None:
    """Eight points with three seeds; the deviation of some is 20 times that of the others."""
    random, hits, widths = np.random.default_rng(3), [], []
    for _ in range(60):
        deviations = np.where(random.random(8) < failing, 0.2, 0.01)
        scores = random.normal(0.0, deviations, (3, 8))
        variances = draw_variances(scores.var(axis=0, ddof=1), np.full(8, 2.0), 2000, random)
        means = scores.mean(axis=0) + np.sqrt(variances / 3) * random.standard_normal(variances.shape)
        low, high = np.quantile(means, [0.05, 0.95], axis=0)
        hits.append((low <= 0) & (high >= 0))
        widths.extend((high - low)[deviations < 0.1])
    assert 0.86 <= np.mean(hits) <= 0.94
    assert np.median(widths) < 0.03  # with one pooled variance and failing seeds: 0.12
