"""Stratified samples: the number of examples of each class or range of scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.tasks import TASKS
from autorank.tasks.definition import Task
from autorank.tasks.splits.stratified import stratified

SCORES = TASKS["stsb"]


def classes(*names: str) -> Task:
    return replace(TASKS["mrpc"], label_names=names)


def held_out(task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
    return task.kind.tune_part(task, labels, ratio)


def test_sample_keeps_the_labels_shares() -> None:
    labels = np.array([0] * 71 + [1] * 25 + [2] * 4)
    sample = stratified(labels, 0.1, seed=3)
    assert np.bincount(labels[sample]).tolist() == [8, 3, 1]
    assert np.array_equal(sample, stratified(labels, 0.1, seed=3)) and len(set(sample)) == 12
    scores = np.linspace(0, 5, 200, dtype=np.float32)
    tenths = np.floor(scores[stratified(scores, 0.1, seed=0)] / 0.5001).astype(int)
    assert np.bincount(tenths).tolist() == [2] * 10


def test_a_class_keeps_its_share_of_the_tune_split() -> None:
    labels = np.random.default_rng(0).permutation([0] * 300 + [1] * 50 + [2] * 2)
    tune = held_out(classes("a", "b", "c"), labels, 0.1)
    assert np.bincount(labels[tune]).tolist() == [30, 5, 1]
    assert np.array_equal(tune, np.unique(tune)) and np.array_equal(tune, held_out(classes("a", "b", "c"), labels, 0.1))


@pytest.mark.parametrize("ratio", [1e-12, 0.01, 0.3, 0.5])
def test_every_class_is_on_both_sides(ratio: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        counts = rng.integers(2, 12, size=5)
        labels = rng.permutation(np.repeat(np.arange(5), counts))
        sample_counts = np.bincount(labels[held_out(classes(*"abcde"), labels, ratio)], minlength=5)
        assert (sample_counts >= 1).all() and (counts - sample_counts >= 1).all()
        assert (sample_counts < np.maximum(1, ratio * counts) + 1).all()


def test_a_tenth_of_each_decile() -> None:
    scores = np.random.default_rng(2).permutation(np.arange(500)).astype(np.float32) / 100
    tune = held_out(SCORES, scores, 0.1)
    assert np.bincount((scores[tune] * 100).round().astype(int) // 50).tolist() == [5] * 10


CASES = [(2, 0.1, 1), (4, 0.5, 2), (9, 0.1, 1), (14, 0.1, 2), (40, 0.1, 4)]


@pytest.mark.parametrize(("examples", "ratio", "count"), CASES)
def test_few_scores_are_not_all_held_out(examples: int, ratio: float, count: int) -> None:
    scores = np.random.default_rng(3).normal(size=examples).astype(np.float32)
    tune = held_out(SCORES, scores, ratio)
    assert len(tune) == count
    parts = np.argsort(np.argsort(scores))[tune] * count // examples  # ranks, cut into as many equal parts
    assert len(set(parts.tolist())) == count


def test_equal_scores() -> None:
    assert len(held_out(SCORES, np.array([0.0] * 99 + [5.0], np.float32), 0.2)) == 20
    tune = held_out(SCORES, np.repeat(np.array([0, 1, 5], np.float32), [60, 30, 10]), 0.1)
    assert np.bincount(np.digitize(tune, [60, 90])).tolist() == [6, 3, 1]


def test_a_class_too_small_to_share() -> None:
    with pytest.raises(AutorankError) as caught:
        held_out(classes("yes", "no", "maybe", "never"), np.array([0] * 5 + [1] * 3 + [2]), 0.25)
    words = ["--tune-split 0.25", "9 training examples", "of 'maybe' (1), 'never' (0).", "--max-train-examples"]
    assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(AutorankError, match=r"'c4' \(0\) and 3 more"):
        held_out(classes(*(f"c{i}" for i in range(8))), np.zeros(1, np.int64), 0.1)
    with pytest.raises(AutorankError, match=r"--tune-split 0\.1 needs at least two training examples"):
        held_out(SCORES, np.ones(1, np.float32), 0.1)
