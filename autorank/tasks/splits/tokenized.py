"""A tokenized split, and how a task's texts become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from autorank.tasks.splits.examples import Examples


@dataclass(frozen=True)
class Split:
    """Tokenized examples, concatenated in flat arrays (memory-mapped if they come from the cache).

    Subclasses for spans and generation have further arrays, see `tasks/data/windows.py` and `tasks/data/pairs.py`.

    Attributes:
        ids: Token ids, int32, `tokens`.
        type_ids: Token type ids, int8, `tokens`; None if the model has none.
        offsets: Start of each example in `ids`, and the total: int64, `examples + 1`.
        labels: int64 (classification) or float32 (regression), `examples`; of multi-label classification float32,
            `examples x classes`.
        references: What a prediction is compared with if labels are not sufficient, one entry per example.
        truncated: 1 for texts that were truncated, int8, `examples`; None if unknown.
        RAGGED: Names of arrays with several values per example, and their offsets.
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    references: Sequence[Any] | None = None
    truncated: np.ndarray | None = None

    RAGGED: ClassVar[dict[str, str]] = {"ids": "offsets", "type_ids": "offsets"}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def examples(self) -> int:
        """Number of examples; of spans, the number of questions, each of which has several rows."""
        return len(self)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, int64, `examples`."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Self:
        """Select examples.

        Args:
            indices: Indices in ascending order.

        Returns:
            A copy with these examples, or this split if they are all.
        """
        return self if len(indices) == len(self) else self._rows(indices)

    def _rows(self, indices: np.ndarray) -> Self:
        """A copy with these rows."""
        taken: dict[str, Any] = {}
        for name in set(self.RAGGED.values()):
            taken[name] = np.concatenate([[0], np.cumsum(np.diff(getattr(self, name))[indices])])
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name in self.RAGGED and values is not None:
                old, new = getattr(self, self.RAGGED[field.name]), taken[self.RAGGED[field.name]]
                taken[field.name] = values[np.repeat(old[indices] - new[:-1], np.diff(new)) + np.arange(new[-1])]
            elif isinstance(values, np.ndarray) and field.name not in taken:
                taken[field.name] = values[indices]
        if self.references is not None:
            taken["references"] = [self.references[i] for i in indices]
        return replace(self, **taken)

    @property
    def weights(self) -> np.ndarray:
        """Weight of each example in the mean loss of a batch, `examples`."""
        return np.ones(len(self))

    def label_count(self, indices: np.ndarray) -> int:
        """Return the number of labels in a batch of these examples."""
        return len(indices)

    @property
    def strata(self) -> np.ndarray:
        """Strata of stratified samples: the labels, or each combination of several labels, `examples`."""
        if self.labels.ndim == 1:
            return self.labels
        return np.unique(self.labels, axis=0, return_inverse=True)[1].ravel()


@dataclass(frozen=True)
class Tokenization:
    """How a task's examples become a tokenized split.

    Attributes:
        of: Function that tokenizes examples.
        tag: Text that identifies the settings, for cache keys.
        length: Number of tokens to which texts are truncated.
        split: Class of the splits.
        whole: Whether the tokens of an example depend on the other examples of its split.
        ends: Tokens that end a generated text.
    """

    of: Callable[[Examples], Split]
    tag: str
    length: int
    split: type[Split] = Split
    whole: bool = False
    ends: tuple[int, ...] = ()


def flat(lists: Sequence[Sequence[Any] | np.ndarray], dtype: type = np.int32) -> np.ndarray:
    """Concatenate sequences.

    Args:
        lists: Sequences of numbers.
        dtype: Type of the numbers in the array.

    Returns:
        One array, `total`.
    """
    total = sum(map(len, lists))
    return np.fromiter((value for values in lists for value in values), dtype, total)


def offsets(lists: Sequence[Sequence[Any] | np.ndarray]) -> np.ndarray:
    """Compute where each sequence starts in their concatenation.

    Args:
        lists: The sequences.

    Returns:
        The starts and the total, int64, `sequences + 1`.
    """
    return np.concatenate([[0], np.cumsum(list(map(len, lists)))]).astype(np.int64)
