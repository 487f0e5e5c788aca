"""Tokenized prompts and completions of text-to-text tasks, and their batches for each kind of model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from autorank.tasks.splits.tokenized import Split

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Pairs(Split):
    """Pairs for decoder-only models (LLaMA, Qwen, GPT-2): the completion follows its prompt in one sequence.

    Attributes:
        ids: Tokens of the prompts, with the special tokens before them, int32, `tokens`.
        labels: Number of the prompt, equal for equal prompts, int64, `examples`.
        references: Text of each completion; after `grouped`, the texts of all completions of each prompt.
        target_ids: Tokens of the completions, with the end token unless they were truncated, int32, `target tokens`.
        target_offsets: Start of each completion, and the total: int64, `examples + 1`.
    """

    target_ids: np.ndarray
    target_offsets: np.ndarray

    RAGGED: ClassVar[dict[str, str]] = Split.RAGGED | {"target_ids": "target_offsets"}

    @property
    def prompt_lengths(self) -> np.ndarray:
        """Number of tokens of each prompt, int64, `examples`."""
        return np.diff(self.offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, prompt and completion, int64, `examples`."""
        return self.prompt_lengths + np.diff(self.target_offsets)

    @property
    def weights(self) -> np.ndarray:
        """Number of predicted tokens, int64, `examples`; the loss of a batch is the mean over all of them."""
        return self.target_lengths

    def label_count(self, indices: np.ndarray) -> int:
        """Return the number of predicted tokens in a batch of these examples."""
        return int(self.weights[indices].sum())

    @property
    def strata(self) -> np.ndarray:
        """One stratum, int64, `examples`."""
        return np.zeros(len(self), np.int64)

    @property
    def target_lengths(self) -> np.ndarray:
        """Number of predicted tokens of each completion, int64, `examples`."""
        return np.diff(self.target_offsets)

    def grouped(self) -> Self:
        """Keep each prompt once, with its longest completion, and the texts of all its completions as references."""
        assert self.references is not None
        lengths = self.target_lengths
        members: dict[int, list[int]] = defaultdict(list)
        for row, prompt in enumerate(self.labels.tolist()):
            members[prompt].append(row)
        longest = {max(rows, key=lengths.__getitem__): rows for rows in members.values()}
        chosen = sorted(longest)
        references = [[self.references[row] for row in longest[longest_row]] for longest_row in chosen]
        return replace(self._rows(np.array(chosen)), references=references)

    def batch(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """Build a batch for training, padded on the right.

        Args:
            indices: Indices of the examples.
            pad_id: Padding token.

        Returns:
            input_ids and attention_mask: int64, `batch x seq`; labels: the predicted tokens, and predicted: the flat
            positions of the tokens before them, whose logits predict them, int64, `predicted tokens`.
        """
        targets = self._targets(indices)
        sequences = [np.concatenate(pair) for pair in zip(self._prompts(indices), targets, strict=True)]
        masks = [np.append(mask, np.ones(len(t))) for mask, t in zip(self._trained(indices), targets, strict=True)]
        ids = _padded(sequences, pad_id)
        rows, columns = np.nonzero(_padded(masks, 0)[:, 1:])
        return _tensors(
            input_ids=ids,
            attention_mask=_padded([np.ones(len(tokens)) for tokens in sequences], 0),
            labels=ids[rows, columns + 1],
            predicted=rows * ids.shape[1] + columns,
        )

    def prompts(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """Build a batch for generation, padded on the left.

        Args:
            indices: Indices of the examples.
            pad_id: Padding token.

        Returns:
            input_ids and attention_mask: int64, `batch x seq`.
        """
        prompts = self._prompts(indices)
        return _tensors(
            input_ids=_padded(prompts, pad_id, left=True),
            attention_mask=_padded([np.ones(len(prompt)) for prompt in prompts], 0, left=True),
        )

    def _prompts(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in indices]

    def _trained(self, indices: np.ndarray) -> list[np.ndarray]:
        """Which tokens of the prompts are predicted: none."""
        return [np.zeros(length) for length in self.prompt_lengths[indices]]

    def _targets(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self.target_ids[self.target_offsets[i] : self.target_offsets[i + 1]] for i in indices]


@dataclass(frozen=True, kw_only=True)
class Conversations(Pairs):
    """Conversations: the completion is the assistant's last turn, and earlier turns in the prompt also have a loss.

    Attributes:
        trained: 1 for the tokens of a prompt that are predicted, int8, `tokens`.
    """

    trained: np.ndarray

    RAGGED: ClassVar[dict[str, str]] = Pairs.RAGGED | {"trained": "offsets"}

    @property
    def weights(self) -> np.ndarray:
        """Number of predicted tokens, of all turns, int64, `examples`."""
        total: np.ndarray = np.concatenate([[0], np.cumsum(self.trained, dtype=np.int64)])
        weights: np.ndarray = self.target_lengths + np.diff(total[self.offsets])
        return weights

    def _trained(self, indices: np.ndarray) -> list[np.ndarray]:
        """Which tokens of the prompts are predicted."""
        return [self.trained[self.offsets[i] : self.offsets[i + 1]] for i in indices]


@dataclass(frozen=True, kw_only=True)
class EncodedPairs(Pairs):
    """Pairs for encoder-decoders (BART, T5): the encoder reads the prompt, the decoder generates the completion.

    `target_ids` begin with the start token of the decoder, which is not predicted.
    """

    @property
    def target_lengths(self) -> np.ndarray:
        """Number of predicted tokens of each completion, int64, `examples`."""
        return np.diff(self.target_offsets) - 1

    def batch(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """Build a batch for training, padded on the right.

        Prompts and completions always have different widths, so the width of a layer's input identifies them, see
        `batches.token_mask`.

        Args:
            indices: Indices of the examples.
            pad_id: Padding token.

        Returns:
            input_ids and attention_mask: int64, `batch x seq`; decoder_input_ids and decoder_attention_mask: int64,
            `batch x target seq`; labels: the predicted tokens, and predicted: the flat positions of the decoder's
            tokens whose logits predict them, int64, `predicted tokens`.
        """
        prompts, targets = self._prompts(indices), self._targets(indices)
        encoded = _padded(prompts, pad_id)
        inputs, outputs = [target[:-1] for target in targets], [target[1:] for target in targets]
        width = max(map(len, inputs))
        width += width == encoded.shape[1]
        mask = _padded([np.ones(len(tokens)) for tokens in inputs], 0, width)
        return _tensors(
            input_ids=encoded,
            attention_mask=_padded([np.ones(len(prompt)) for prompt in prompts], 0),
            decoder_input_ids=_padded(inputs, pad_id, width),
            decoder_attention_mask=mask,
            labels=np.concatenate(outputs).astype(np.int64),
            predicted=np.flatnonzero(mask),
        )

    def prompts(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """Build a batch for generation, padded on the right: input_ids and attention_mask, int64, `batch x seq`."""
        batch = self.batch(indices, pad_id)
        return {name: batch[name] for name in ("input_ids", "attention_mask")}


def _padded(rows: list[np.ndarray], filler: int, min_width: int = 0, left: bool = False) -> np.ndarray:
    """Pad rows to one array, `rows x width`; the width is the longest row's, but at least `min_width`."""
    width = max(min_width, *map(len, rows))
    filled = np.full((len(rows), width), filler, np.int64)
    for line, row in zip(filled, rows, strict=True):
        line[slice(width - len(row), None) if left else slice(len(row))] = row
    return filled


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(values) for name, values in arrays.items()}
