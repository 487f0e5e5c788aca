"""Tokenized questions with their contexts, split into overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.spans import Reference
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.tokenized import Split, offsets

STRIDE = 128  # tokens that two windows of a context share (BERT's SQuAD); a third of the window at most
MIN_LENGTH = 24  # tokens of a window: a question, the overlap, and some more of the context
TOKENIZER_BATCH = 1_000  # questions tokenized at a time


@dataclass(frozen=True, kw_only=True)
class Windows(Split):
    """Windows, one a row: [CLS] question [SEP] part of the context [SEP]. Its examples are questions.

    Attributes:
        labels: First and last token of the question's first answer; both `null` if the window does not hold the whole
            answer. int64, `windows x 2`.
        references: A `Reference` for each question.
        owner: The window's question, in ascending order. int64, `windows`.
        null: The token that means no answer: [CLS], or the first if there is no [CLS]. int64, `windows`.
        starts: Start of each token of the context, in characters of it; -1 for all other tokens. int32, `tokens`.
        ends: End of each token, likewise.
    """

    owner: np.ndarray
    null: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    RAGGED: ClassVar[dict[str, str]] = Split.RAGGED | {"starts": "offsets", "ends": "offsets"}

    @property
    def examples(self) -> int:
        """The number of questions."""
        assert self.references is not None
        return len(self.references)

    def take(self, indices: np.ndarray) -> Self:
        """Select questions with all of their windows.

        Args:
            indices: Indices of the questions, in ascending order.

        Returns:
            A copy with these questions, or this split if they are all.
        """
        if len(indices) == self.examples:
            return self
        assert self.references is not None
        new_index = np.full(self.examples, -1)
        new_index[indices] = np.arange(len(indices))
        subset = replace(self, references=None)._rows(np.flatnonzero(new_index[self.owner] >= 0))
        return replace(subset, owner=new_index[subset.owner], references=[self.references[i] for i in indices])

    @property
    def strata(self) -> np.ndarray:
        """1 for windows with an answer, else 0; int64, `windows`."""
        answered: np.ndarray = self.labels[:, 0] != self.null
        return answered.astype(np.int64)

    def context(self, windows: np.ndarray, width: int) -> np.ndarray:
        """Mark the tokens of the context.

        Args:
            windows: Indices of windows.
            width: Tokens that the windows are padded to.

        Returns:
            bool, `windows x width`.
        """
        positions = self.offsets[windows][:, None] + np.arange(width)
        real: np.ndarray = positions < self.offsets[windows + 1][:, None]
        return real & (self.starts[np.where(real, positions, 0)] >= 0)


def tag(length: int) -> str:
    """Name the settings of windows, for cache keys.

    Args:
        length: Tokens of a window.

    Returns:
        The text.
    """
    return f"windows {length} {_stride(length)}"


def check(model: str, tokenizer: Any, length: int) -> None:
    """Check that windows of this length can be made.

    Args:
        model: The model's name, for messages.
        tokenizer: Its tokenizer.
        length: Tokens of a window.

    Raises:
        AutorankError: The tokenizer has no offset mapping, or windows are too short.
    """
    if not tokenizer.is_fast:
        raise AutorankError(
            f"The tokenizer of {model!r} ({type(tokenizer).__name__}) cannot map tokens to positions in the text, "
            "which answers need. Use a model with a fast tokenizer (tokenizer.json)."
        )
    if length < MIN_LENGTH:
        raise AutorankError(
            f"{length} tokens are too few for a question and a part of its context. Use --max-length {MIN_LENGTH} or "
            "more (384 is usual), and a model that takes as many."
        )


def tokenize(examples: Examples, tokenizer: Any, length: int) -> Windows:
    """Tokenize questions with their contexts, split into overlapping windows.

    The question comes first, since in a decoder-only model the context must follow it. It is truncated to a third of
    the window.

    Args:
        examples: The questions.
        tokenizer: The model's tokenizer, a fast one.
        length: Maximum number of tokens of a window.

    Returns:
        The windows.
    """
    assert examples.references is not None
    ids, types, starts, ends, owner, null, labels = [], [], [], [], [], [], []
    for begin in range(0, len(examples), TOKENIZER_BATCH):
        questions, contexts = (list(column[begin : begin + TOKENIZER_BATCH]) for column in examples.texts)
        encoding = tokenizer(
            _truncated(questions, tokenizer, length // 3), contexts, truncation="only_second", max_length=length,
            stride=_stride(length), return_overflowing_tokens=True, return_offsets_mapping=True,
            return_attention_mask=False, verbose=False,
        )  # fmt: skip
        for i, question in enumerate(encoding["overflow_to_sample_mapping"]):
            tokens = encoding["input_ids"][i]
            inside = np.array([part == 1 for part in encoding.sequence_ids(i)])
            first, last = np.where(inside, np.array(encoding["offset_mapping"][i]).T, -1)
            cls = tokenizer.cls_token_id
            null_token = tokens.index(cls) if cls is not None and cls in tokens else 0
            ids.append(np.array(tokens, np.int32))
            starts.append(first.astype(np.int32))
            ends.append(last.astype(np.int32))
            owner.append(begin + question)
            null.append(null_token)
            labels.append(_span(first, last, examples.references[begin + question]) or (null_token, null_token))
            if "token_type_ids" in encoding:
                types.append(np.array(encoding["token_type_ids"][i], np.int8))
    return Windows(
        np.concatenate(ids), np.concatenate(types) if types else None, offsets(ids), np.array(labels, np.int64),
        examples.references, owner=np.array(owner, np.int64), null=np.array(null, np.int64),
        starts=np.concatenate(starts), ends=np.concatenate(ends),
    )  # fmt: skip


def _stride(length: int) -> int:
    return min(STRIDE, length // 3)


def _truncated(questions: Sequence[str], tokenizer: Any, longest: int) -> list[str]:
    """Questions of at most about `longest` tokens, stripped: SQuAD has questions that are almost all blanks."""
    stripped = [question.strip() for question in questions]
    encoding = tokenizer(
        stripped, add_special_tokens=False, truncation=True, max_length=longest, return_offsets_mapping=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    return [
        text[: offsets[-1][1]] if len(offsets) == longest else text
        for text, offsets in zip(stripped, encoding["offset_mapping"], strict=True)
    ]


def _span(starts: np.ndarray, ends: np.ndarray, reference: Reference) -> tuple[int, int] | None:
    """First and last token of the first answer, if the window holds all of it. starts, ends: `tokens`, -1 outside."""
    context = np.flatnonzero(starts >= 0)
    if not reference.answers or not len(context):
        return None
    text = reference.answers[0]
    begin = reference.starts[0] + len(text) - len(text.lstrip())
    end = begin + len(text.strip())
    starts, ends = starts[context], ends[context]
    if starts[0] > begin or ends[-1] < end:
        return None
    # all tokens that share a character with the answer: in some tokenizers a token starts with the blank before a word
    first, last = np.searchsorted(ends, begin, "right"), np.searchsorted(starts, end, "left") - 1
    return (int(context[first]), int(context[last])) if first <= last else None
