"""Which examples go into which batch, and a batch as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from autorank.tasks.data.pairs import Pairs
from autorank.tasks.definition import Split

if TYPE_CHECKING:
    import torch

MEGA_BATCH = 50  # batches sorted by length together; 50 is also the transformers sampler's


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """An epoch's batches of example numbers: every example once, similar lengths together, in random order.

    Shuffle, cut into runs of `MEGA_BATCH` batches, sort each run by length, cut it into batches, shuffle
    these. One batch may be smaller. Equal arguments give equal batches, whatever else draws random numbers.
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for run in _cut(order, MEGA_BATCH * batch_size):
        batches += _cut(run[np.argsort(lengths[run], kind="stable")], batch_size)
    return [batches[i] for i in draw.permutation(len(batches))]


def eval_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of example numbers for evaluation: longest first, so that too little memory shows at once."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def collate(split: Split, indices: np.ndarray, pad_id: int, multiple: int = 1) -> dict[str, torch.Tensor]:
    """A batch, padded on the right to its longest example, rounded up to a multiple of `multiple`.

    Returns:
        input_ids, attention_mask and, where the model has them, token_type_ids: int64, `batch x seq`;
        labels: int64 or float32, `batch`. Of pairs, see `Pairs.batch`.
    """
    import torch

    if isinstance(split, Pairs):
        return split.batch(indices, pad_id, multiple)
    starts = split.offsets[indices]
    lengths = split.offsets[np.asarray(indices) + 1] - starts
    width = -(-int(lengths.max()) // multiple) * multiple
    position = np.arange(width)
    real = position < lengths[:, None]
    where = np.where(real, starts[:, None] + position, 0)
    batch = {
        "input_ids": np.where(real, split.ids[where], pad_id).astype(np.int64),
        "attention_mask": real.astype(np.int64),
    }
    if split.type_ids is not None:
        batch["token_type_ids"] = np.where(real, split.type_ids[where], 0).astype(np.int64)
    batch["labels"] = split.labels[indices]
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def token_mask(batch: Mapping[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Which of a layer's `values`, batch x seq x ..., are of tokens rather than padding: 1 or 0, batch x seq.

    An encoder-decoder's layers see prompts or completions; which, their number tells (see `EncodedPairs.batch`).
    Where neither has that number, all are taken for tokens.
    """
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in batch and batch[name].shape == values.shape[:2]:
            return batch[name]
    return values.new_ones(values.shape[:2])


def _cut(numbers: np.ndarray, size: int) -> list[np.ndarray]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
