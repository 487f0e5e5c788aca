"""Assignment of examples to batches, and batches as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autorank.tasks.data.pairs import Pairs
from autorank.tasks.splits.tokenized import Split

if TYPE_CHECKING:
    import torch

TOKEN_MASKS = ("attention_mask", "decoder_attention_mask")
MEGA_BATCH = 50  # batches that are sorted by length together; 50 as in transformers' sampler


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Assign the examples of an epoch to batches: each example once, similar lengths together, in random order.

    Examples are shuffled and cut into groups of `MEGA_BATCH` batches. Each group is sorted by length and cut into
    batches, which are shuffled. One batch may be smaller. The result depends only on the arguments.

    Args:
        lengths: Number of tokens of each example, `examples`.
        batch_size: Examples of a batch.
        seed: Random seed of the run.
        epoch: Number of the epoch.

    Returns:
        Indices of the examples of each batch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for group in _cut(order, MEGA_BATCH * batch_size):
        batches += _cut(group[np.argsort(lengths[group], kind="stable")], batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def eval_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Assign examples to evaluation batches, longest first, so that a lack of memory shows at once.

    Args:
        lengths: Number of tokens of each example, `examples`.
        batch_size: Examples of a batch.

    Returns:
        Indices of the examples of each batch.
    """
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def collate(split: Split, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
    """Build a batch, padded on the right.

    Args:
        split: The split.
        indices: Indices of the examples.
        pad_id: Padding token.

    Returns:
        input_ids, attention_mask and, if the model uses them, token_type_ids: int64, `batch x seq`; labels: int64 or
        float32, `batch`. For pairs see `Pairs.batch`.
    """
    import torch

    if isinstance(split, Pairs):
        return split.batch(indices, pad_id)
    starts = split.offsets[indices]
    lengths = split.offsets[np.asarray(indices) + 1] - starts
    position = np.arange(lengths.max())
    is_token = position < lengths[:, None]
    index = np.where(is_token, starts[:, None] + position, 0)
    batch = {
        "input_ids": np.where(is_token, split.ids[index], pad_id).astype(np.int64),
        "attention_mask": is_token.astype(np.int64),
    }
    if split.type_ids is not None:
        batch["token_type_ids"] = np.where(is_token, split.type_ids[index], 0).astype(np.int64)
    batch["labels"] = split.labels[indices]
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def token_mask(batch: Mapping[str, torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    """Mark the tokens among the positions at which a layer has inputs or outputs.

    In encoder-decoders, layers process prompts or completions, which have different widths (see `EncodedPairs.batch`).
    Some layers process tokens without the batch's shape (OPT). If no mask fits, all positions count as tokens, such as
    the relative positions of DeBERTa.

    Args:
        batch: The batch.
        shape: Shape of the layer's inputs or outputs without their features: batch x seq, or tokens.

    Returns:
        1 for tokens, 0 for padding, in this shape.
    """
    import torch

    for mask in (batch[name] for name in TOKEN_MASKS if name in batch):
        if mask.shape == tuple(shape) or tuple(shape) == (mask.numel(),):
            return mask.reshape(shape)
    return torch.ones(tuple(shape), device=next(iter(batch.values())).device)


def first_tokens(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask of the first token of each example of a mask, batch x seq."""
    return mask.new_zeros(mask.shape).scatter_(1, mask.argmax(dim=1, keepdim=True), 1)


def _cut(numbers: np.ndarray, size: int) -> list[np.ndarray]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
