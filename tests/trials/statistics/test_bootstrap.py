"""Intervals against SciPy and by their coverage; fronts and knees of draws against those of points; expected drop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from autorank.tasks.metrics.outcomes import Outcomes
from autorank.tasks.metrics.resampling import resampled, weights
from autorank.trials.front import candidates, mark_knee, non_dominated
from autorank.trials.statistics import bootstrap
from tests.trials.trial_factories import evaluation, trial

rng = np.random.default_rng(0)


def models(formula: str, *predicted: np.ndarray, labels: np.ndarray) -> list[Outcomes]:
    return [Outcomes(formula, values[:, None], labels[:, None], (len(labels),)) for values in predicted]


@pytest.mark.parametrize(
    ("formula", "score"), [("accuracy", sk.accuracy_score), ("matthews", sk.matthews_corrcoef), ("f1", sk.f1_score)]
)
def test_intervals_are_those_of_scipy(formula: str, score: Callable[..., float]) -> None:
    labels = rng.integers(0, 2, 300)
    predicted = np.where(rng.random(300) < 0.8, labels, 1 - labels)
    (model,) = models(formula, predicted, labels=labels)
    low, high = bootstrap.interval(resampled([model], weights([300], 4000, rng))[:, 0])
    expected = stats.bootstrap(
        (labels, predicted), score, paired=True, vectorized=False, n_resamples=2000, confidence_level=0.9,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.006)


def coverage(formula: str, make: Callable[[int], tuple[list[np.ndarray], np.ndarray]], size: int) -> float:
    """How often the interval of the first model's score, or of its gain over the second, contains the true value."""
    predicted, labels = make(200_000)
    true = resampled(models(formula, *predicted, labels=labels), np.ones((1, len(labels)), np.float32))[0]
    target, hits = true[0] - (true[1] if len(true) > 1 else 0), 0
    for _ in range(400):
        predicted, labels = make(size)
        scores = resampled(models(formula, *predicted, labels=labels), weights([size], 400, rng))
        low, high = bootstrap.interval(scores[:, 0] - (scores[:, 1] if len(true) > 1 else 0))
        hits += low <= target <= high
    return hits / 400


def two_classifiers(size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return predictions of two models with correlated mistakes, the first with fewer, and the labels."""
    labels, difficulty = rng.integers(0, 2, size), rng.normal(size=size)
    right = [difficulty + 0.6 * rng.normal(size=size) < skill for skill in (1.1, 0.9)]
    return [np.where(hits, labels, 1 - labels) for hits in right], labels


def two_regressors(size: int) -> tuple[list[np.ndarray], np.ndarray]:
    target = rng.uniform(0, 5, size)
    error = rng.normal(size=size)
    return [target + error + 0.5 * rng.normal(size=size), target + 1.2 * error + 0.5 * rng.normal(size=size)], target


@pytest.mark.parametrize(
    ("formula", "make"),
    [
        ("accuracy", two_classifiers),
        ("f1", two_classifiers),
        ("matthews", two_classifiers),
        ("pearson_spearman", two_regressors),
    ],
)
@pytest.mark.parametrize("gain", [False, True])
def test_intervals_have_their_nominal_coverage(formula: str, make: Callable[..., object], gain: bool) -> None:
    def sample(size: int) -> tuple[list[np.ndarray], np.ndarray]:
        predicted, labels = make(size)  # type: ignore[misc]
        return predicted[: 1 + gain], labels

    assert 0.85 <= coverage(formula, sample, 300) <= 0.95


def test_fronts_and_knees_of_draws_are_those_of_their_points() -> None:
    params = np.sort(rng.integers(10, 10_000, 12))
    params[4] = params[5]  # two of a size
    scores = rng.normal(size=(60, 12)).round(1)  # with equal scores
    fronts = bootstrap.on_front(scores, params[:, None].astype(float))
    knees = bootstrap.knees(scores, params.astype(float), fronts)
    for draw, front, knee in zip(scores, fronts, knees, strict=True):
        trials = [trial(i, evaluation(10, int(params[i]), float(draw[i]))) for i in range(len(params))]
        expected = mark_knee(non_dominated(candidates(trials)))
        equal = draw[4] == draw[5] and front[5]  # the expected front has only the first of equal points
        assert [i for i in np.flatnonzero(front) if not (equal and i == 5)] == [point.trial for point in expected]
        assert knee == next(point.trial for point in expected if point.knee)


def test_a_third_objective_keeps_more_points() -> None:
    scores = np.array([[0.9, 0.8]])
    assert bootstrap.on_front(scores, np.array([[10.0], [20.0]])).tolist() == [[True, False]]
    assert bootstrap.on_front(scores, np.array([[10.0, 5.0], [20.0, 1.0]])).tolist() == [[True, True]]


@pytest.mark.parametrize(("count", "spread"), [(10, 0.0), (60, 0.0), (60, 0.05), (60, 0.15)])
def test_the_expected_drop_is_that_of_the_best_model_on_new_examples(count: int, spread: float) -> None:
    """Models of about equal skill on 408 examples: the mean estimate is near the mean of what is lost."""
    lost, estimated = [], []
    for _ in range(80):
        skill = 1.2 + spread * rng.normal(size=count)
        noise = np.sqrt(0.7) * rng.normal(size=(408, 1)) + np.sqrt(0.3) * rng.normal(size=(408, count))
        right = (noise < skill).astype(np.float32)
        observed = right.mean(axis=0).astype(float)
        lost.append(observed.max() - stats.norm.cdf(skill)[observed.argmax()])
        estimated.append(bootstrap.expected_drop(weights([408], 300, rng) @ right / 408, observed))
    assert np.mean(estimated) == pytest.approx(np.mean(lost), abs=0.004)


def test_a_point_without_a_rival_has_no_expected_drop() -> None:
    assert bootstrap.expected_drop(rng.normal(size=(100, 1)), np.array([0.5])) == 0
    assert bootstrap.expected_drop(np.array([0.9, 0.1]) + 0.001 * rng.normal(size=(100, 2)), np.array([0.9, 0.1])) == 0
