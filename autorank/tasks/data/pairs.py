"""Prompts with their completions, tokenised: what text-to-text tasks train on, as batches for every kind of model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from autorank.tasks.definition import Split

if TYPE_CHECKING:
    import torch

IGNORED = -100  # a label that is no token to be predicted


@dataclass(frozen=True, kw_only=True)
class Pairs(Split):
    """For decoder-only models (LLaMA, Qwen, GPT-2): a completion follows its prompt in one sequence.

    Attributes:
        ids, offsets: the prompts, with the special tokens before them.
        labels: which prompt it is, equal for equal prompts.
        target_ids: int32, tokens of the completions, with the end token unless they were cut.
        target_offsets: int64, `examples + 1`.
        references: a completion's text, an example; once `grouped`, all of a prompt's.
    """

    target_ids: np.ndarray
    target_offsets: np.ndarray

    RAGGED: ClassVar[dict[str, str]] = Split.RAGGED | {"target_ids": "target_offsets"}

    @property
    def prompt_lengths(self) -> np.ndarray:
        """Tokens of each prompt, `examples`."""
        return np.diff(self.offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, prompt and completion, `examples`."""
        return self.prompt_lengths + np.diff(self.target_offsets)

    @property
    def weights(self) -> np.ndarray:
        """Tokens that are predicted: a batch's loss is the mean over all of them, `examples`."""
        return np.diff(self.target_offsets)

    @property
    def strata(self) -> np.ndarray:
        return np.zeros(len(self), np.int64)

    def grouped(self) -> Self:
        """Each prompt once, in order, with its longest completion and the texts of all of them as references."""
        assert self.references is not None
        lengths = np.diff(self.target_offsets)
        members: dict[int, list[int]] = defaultdict(list)
        for row, prompt in enumerate(self.labels.tolist()):
            members[prompt].append(row)
        longest = {max(rows, key=lengths.__getitem__): rows for rows in members.values()}
        chosen = sorted(longest)
        references = [[self.references[row] for row in longest[one]] for one in chosen]
        return replace(self._rows(np.array(chosen)), references=references)

    def batch(self, indices: np.ndarray, pad_id: int, multiple: int = 1) -> dict[str, torch.Tensor]:
        """A batch for training, padded on the right to its longest example, rounded up to a multiple of `multiple`.

        Returns:
            input_ids, attention_mask: int64, `batch x seq`; labels: likewise, `IGNORED` on prompts and padding.
        """
        prompts, targets = self._prompts(indices), self._targets(indices)
        whole = [np.concatenate(both) for both in zip(prompts, targets, strict=True)]
        labels = [
            np.concatenate([np.full(len(prompt), IGNORED), target])
            for prompt, target in zip(prompts, targets, strict=True)
        ]
        return _tensors(
            input_ids=_padded(whole, pad_id, multiple),
            attention_mask=_padded([np.ones(len(one)) for one in whole], 0, multiple),
            labels=_padded(labels, IGNORED, multiple),
        )

    def prompts(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """A batch to be completed, padded on the left. Returns input_ids, attention_mask: int64, `batch x seq`."""
        prompts = self._prompts(indices)
        return _tensors(
            input_ids=_padded(prompts, pad_id, left=True),
            attention_mask=_padded([np.ones(len(one)) for one in prompts], 0, left=True),
        )

    def _prompts(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in indices]

    def _targets(self, indices: np.ndarray) -> list[np.ndarray]:
        return [self.target_ids[self.target_offsets[i] : self.target_offsets[i + 1]] for i in indices]


@dataclass(frozen=True, kw_only=True)
class EncodedPairs(Pairs):
    """For encoder-decoders (BART, T5): the encoder reads the prompt, the decoder writes the completion.

    `target_ids` begin with the token that starts the decoder, which is not predicted.
    """

    @property
    def weights(self) -> np.ndarray:
        return np.diff(self.target_offsets) - 1

    def batch(self, indices: np.ndarray, pad_id: int, multiple: int = 1) -> dict[str, torch.Tensor]:
        """As `Pairs.batch`; labels are `batch x target seq`, and decoder_input_ids the same one token earlier.

        Prompts and completions never have the same width, so that a layer's tokens tell by their number which of them
        they are: see `batches.mask`.
        """
        prompts, targets = self._prompts(indices), self._targets(indices)
        encoded = _padded(prompts, pad_id, multiple)
        read, written = [target[:-1] for target in targets], [target[1:] for target in targets]
        width = -(-max(map(len, read)) // multiple) * multiple
        width += multiple if width == encoded.shape[1] else 0
        return _tensors(
            input_ids=encoded,
            attention_mask=_padded([np.ones(len(one)) for one in prompts], 0, multiple),
            decoder_input_ids=_padded(read, pad_id, width),
            decoder_attention_mask=_padded([np.ones(len(one)) for one in read], 0, width),
            labels=_padded(written, IGNORED, width),
        )

    def prompts(self, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
        """As `Pairs.prompts`, padded on the right."""
        batch = self.batch(indices, pad_id)
        return {name: batch[name] for name in ("input_ids", "attention_mask")}


def _padded(rows: list[np.ndarray], filler: int, multiple: int = 1, left: bool = False) -> np.ndarray:
    """Rows of different lengths as one array, `rows x width`; the width is a multiple of `multiple`."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    filled = np.full((len(rows), width), filler, np.int64)
    for line, row in zip(filled, rows, strict=True):
        line[slice(width - len(row), None) if left else slice(len(row))] = row
    return filled


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(values) for name, values in arrays.items()}
