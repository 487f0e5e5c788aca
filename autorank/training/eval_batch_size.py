"""How many examples pass through the model at once where no gradients are kept: found when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


class EvalBatchSize:
    """Halves batches until they fit, and remembers what did.

    Attributes:
        most: examples that fit, as far as is known.
    """

    def __init__(self) -> None:
        self.most = 1 << 40

    def each(self, batches: Sequence[np.ndarray], call: Callable[[np.ndarray], T]) -> Iterator[tuple[np.ndarray, T]]:
        """What `call` gives for each batch, or for each part of it where the whole is too much, in order.

        Nothing of it is kept here; who goes through it should not keep it during the next pass either.

        Raises:
            torch.OutOfMemoryError: a single example is too much.
        """
        waiting = list(reversed(batches))
        while waiting:
            examples = waiting.pop()
            if len(examples) > self.most:
                waiting += [examples[self.most :], examples[: self.most]]
                continue
            try:
                found = call(examples)
            except torch.OutOfMemoryError:
                if len(examples) == 1:
                    raise
                self.most = len(examples) // 2
                waiting.append(examples)
            else:
                yield examples, found
                del found  # before the next pass, which would have to fit beside it
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # only now: the error held what the pass had allocated
