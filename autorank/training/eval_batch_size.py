"""Batch size of passes without gradients, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


class EvalBatchSize:
    """Halves batches that do not fit in memory, and remembers the size that fits.

    Attributes:
        most: number of examples that fit, as far as known.
    """

    def __init__(self) -> None:
        self.most = 1 << 40

    def map(self, batches: Sequence[np.ndarray], call: Callable[[np.ndarray], T]) -> Iterator[tuple[np.ndarray, T]]:
        """Call a function for each batch, or for parts of it if the batch does not fit in memory, in order.

        No result is kept here. The caller should not keep a result during the next call either.

        Args:
            batches: indices of examples.
            call: the function.

        Yields:
            The indices that were passed to the function, and its result.

        Raises:
            torch.OutOfMemoryError: a single example does not fit.
        """
        waiting = list(reversed(batches))
        while waiting:
            examples = waiting.pop()
            if len(examples) > self.most:
                waiting += [examples[self.most :], examples[: self.most]]
                continue
            try:
                result = call(examples)
            except torch.OutOfMemoryError:
                if len(examples) == 1:
                    raise
                self.most = len(examples) // 2
                waiting.append(examples)
            else:
                yield examples, result
                del result  # frees its memory before the next call
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # only now, because the exception kept the memory of the pass
