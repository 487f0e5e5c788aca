"""Scores against scikit-learn and SciPy."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from autorank.tasks.metrics.labels import compute
from autorank.tasks.named.glue import GLUE

rng = np.random.default_rng(0)


def classes(count: int, examples: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right more often than not, and labels."""
    labels = rng.integers(0, count, examples)
    logits = rng.normal(size=(examples, count))
    logits[np.arange(examples), labels] += 1
    return logits.astype(np.float32), labels


def test_accuracy_and_f1() -> None:
    logits, labels = classes(2)
    scores = compute(GLUE["mrpc"], logits, labels)
    assert list(scores) == ["accuracy", "f1"]
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(labels, logits.argmax(1)))
    assert scores["f1"] == pytest.approx(sk.f1_score(labels, logits.argmax(1)))


@pytest.mark.parametrize("count", [2, 4])
def test_metrics_of_classes_of_different_sizes(count: int) -> None:
    """A class that is never predicted, and one that is predicted but not present."""
    logits, labels = classes(count)
    labels = np.where(labels == count - 1, 0, labels) if count > 2 else labels
    logits[:, 1] = -9 if count > 2 else logits[:, 1]
    names = tuple("abcd"[:count])
    task = replace(GLUE["cola"], label_names=names, metrics=("macro_f1", "balanced_accuracy", "recall:b", "recall:a"))
    scores, predicted = compute(task, logits, labels), logits.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"), abs=1e-6)
        assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted), abs=1e-6)
    for name, label in (("recall:a", 0), ("recall:b", 1)):
        assert scores[name] == pytest.approx(sk.recall_score(labels == label, predicted == label), abs=1e-6)


def test_scores_are_rounded_to_single_precision() -> None:
    """A quotient in single precision has meaningless digits as a float: 0.6838235259056091 for 0.6838235294117647."""
    labels = np.arange(408) >= 279
    logits = np.tile(np.array([1, 0], np.float32), (408, 1))
    assert compute(GLUE["mrpc"], logits, labels.astype(int))["accuracy"] == 0.6838235


def test_matthews() -> None:
    logits, labels = classes(2)
    scores = compute(GLUE["cola"], logits, labels)
    assert scores == {"matthews": pytest.approx(sk.matthews_corrcoef(labels, logits.argmax(1)))}


def test_correlations_with_ties() -> None:
    labels = (rng.integers(0, 26, 400) / 5).astype(np.float32)
    logits = (labels + rng.normal(size=400)).round(1).astype(np.float32)
    scores = compute(GLUE["stsb"], logits[:, None], labels)
    pearson, spearman = stats.pearsonr(logits, labels).statistic, stats.spearmanr(logits, labels).statistic
    assert list(scores) == ["pearson_spearman", "pearson", "spearman"]
    assert scores["pearson"] == pytest.approx(pearson, abs=1e-6)
    assert scores["spearman"] == pytest.approx(spearman, abs=1e-6)
    assert scores["pearson_spearman"] == pytest.approx((pearson + spearman) / 2, abs=1e-6)


def test_mnli_together_and_apart() -> None:
    logits, labels = classes(3, 100)
    scores = compute(GLUE["mnli"], logits, labels, {"validation_matched": 30, "validation_mismatched": 70})
    correct = logits.argmax(1) == labels
    assert list(scores) == ["accuracy", "accuracy_matched", "accuracy_mismatched"]
    assert list(scores.values()) == pytest.approx([correct.mean(), correct[:30].mean(), correct[30:].mean()])


@pytest.mark.parametrize("label", [0, 1])
def test_constant_predictions_correlate_with_nothing(label: int) -> None:
    logits = np.zeros((6, 2), np.float32)
    logits[:, label] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(GLUE["cola"], logits, np.array([0, 1] * 3)) == {"matthews": 0.0}
        assert compute(GLUE["cola"], logits, np.full(6, label)) == {"matthews": 0.0}
        scores = np.arange(6, dtype=np.float32)
        assert set(compute(GLUE["stsb"], np.full((6, 1), 2.5), scores).values()) == {0.0}
        nearly = np.full((6, 1), 2.5) + 1e-12 * rng.normal(size=(6, 1))  # Pearson is lost in rounding
        assert -1 <= compute(GLUE["stsb"], nearly, scores)["pearson"] <= 1  # without a warning, and not NaN


def test_a_diverged_run_has_no_score() -> None:
    logits, labels = classes(2)
    logits[3, 0] = np.nan
    assert all(math.isnan(value) for value in compute(GLUE["mrpc"], logits, labels).values())
    logits[3, 0] = np.inf
    assert all(math.isnan(value) for value in compute(GLUE["mrpc"], logits, labels).values())
