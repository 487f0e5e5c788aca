"""Which examples go together, and how they are padded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autorank.tasks.data.batches import collate, epoch_batches, eval_batches
from autorank.tasks.splits.tokenized import Split

LENGTHS = np.random.default_rng(0).integers(3, 100, 2_037)


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [1, 16, 5_000])
def test_every_example_once(size: int) -> None:
    batches = epoch_batches(LENGTHS, size, seed=1, epoch=2)
    assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
    assert sum(len(batch) != size for batch in batches) == (len(LENGTHS) % size > 0)
    assert sorted(np.concatenate(eval_batches(LENGTHS, size))) == list(range(len(LENGTHS)))


def test_the_seed_and_the_epoch_decide() -> None:
    first = epoch_batches(LENGTHS, 16, seed=1, epoch=2)
    np.random.seed(7)
    assert same(first, epoch_batches(LENGTHS, 16, seed=1, epoch=2))
    assert not same(first, epoch_batches(LENGTHS, 16, seed=1, epoch=3))
    assert not same(first, epoch_batches(LENGTHS, 16, seed=2, epoch=2))


def test_similar_lengths_go_together_in_random_order() -> None:
    batches = epoch_batches(LENGTHS, 16, seed=0, epoch=0)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()  # without buckets 1.8
    means = np.array([LENGTHS[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_evaluation_starts_with_the_longest() -> None:
    assert LENGTHS[np.concatenate(eval_batches(LENGTHS, 32))].tolist() == sorted(LENGTHS, reverse=True)


def split(type_ids: bool = True) -> Split:
    """[10], [11, 12, 13], [] and [14, 15]."""
    ids = np.arange(10, 16, dtype=np.int32)
    types = np.array([0, 0, 1, 1, 0, 1], np.int8) if type_ids else None
    return Split(ids, types, np.array([0, 1, 4, 4, 6]), np.array([1, 0, 1, 0]))


def test_collate_pads_on_the_right() -> None:
    batch = collate(split(), np.array([3, 1, 2]), pad_id=9)
    assert batch["input_ids"].tolist() == [[14, 15, 9], [11, 12, 13], [9, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert batch["labels"].tolist() == [0, 0, 1]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_collate_without_type_ids() -> None:
    batch = collate(split(type_ids=False), np.array([1, 0]), pad_id=0)
    assert batch["input_ids"].tolist() == [[11, 12, 13], [10, 0, 0]]
    assert "token_type_ids" not in batch


def test_regression_labels_stay_floats() -> None:
    ratings = replace(split(), labels=np.array([0.5, 1, 2, 3], np.float32))
    assert collate(ratings, np.array([0, 1]), pad_id=0)["labels"].dtype == torch.float32
