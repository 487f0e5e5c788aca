"""Examples before tokenization: texts, and labels as numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OWN_DATA = "own data"  # `Task.source` of tasks made from the user's own data


@dataclass(frozen=True)
class Examples:
    """A split before tokenization.

    Attributes:
        texts: One or two columns of texts.
        labels: `examples`. Classification: class numbers, int64. Regression: targets, float32. Spans: 1 where the
            question has an answer, else 0, int64. Generation: The number of the prompt, int64.
        references: As in `Split`, but plain values.
        notes: What the user should know about how they were read.
    """

    texts: tuple[Sequence[str], ...]
    labels: np.ndarray
    references: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Examples:
        """Copy a part of the examples.

        Args:
            indices: Which examples.

        Returns:
            These examples, in the order of `indices`.
        """
        texts = tuple([column[i] for i in indices] for column in self.texts)
        references = None if self.references is None else [self.references[i] for i in indices]
        return Examples(texts, self.labels[indices], references, self.notes)

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        digest = hashlib.sha256()
        for column in self.texts:
            digest.update(np.fromiter(map(len, column), np.int64, len(column)).tobytes())
            digest.update("".join(column).encode("utf-8", "surrogatepass"))
        digest.update(f"{self.labels.dtype}".encode() + self.labels.tobytes())
        if self.references is not None:
            digest.update(json.dumps(self.references).encode())
        return digest.hexdigest()
