"""Batch size of passes without gradients: estimated for decoding, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from autorank.training import gpu

T = TypeVar("T")
DECODED = 32  # prompts that are decoded together on a CPU, where larger batches gain little (ours)
MAX_DECODED = 256  # on a GPU, on which a token takes nearly as long for one prompt as for many (ours)
CACHE_SHARE = 0.5  # share of the free memory that keys and values may take (ours)


def decoding_batch(config: Any, tokens: int, device: torch.device) -> int:
    """Choose how many prompts are decoded together.

    Args:
        config: The model's configuration.
        tokens: Tokens of the longest prompt and its completion.
        device: Device of the model.

    Returns:
        A power of two: on a GPU as many as their keys and values fit into half of the free memory, at most
        `MAX_DECODED`; elsewhere `DECODED`.
    """
    if device.type != "cuda":
        return DECODED
    fitting = CACHE_SHARE * gpu.free_memory(device) / (tokens * _cache_bytes(config))
    return int(1 << max(0, min(int(fitting), MAX_DECODED).bit_length() - 1))


def _cache_bytes(config: Any) -> int:
    """Bytes of the keys and values of a token in all layers, in 4 bytes a number; those of 16 bits take half."""
    text = config.get_text_config()
    heads, width = getattr(text, "num_attention_heads", None), int(text.hidden_size)
    if isinstance(heads, int):  # else the architecture has no attention, and its state is no larger
        groups = getattr(text, "num_key_value_heads", None) or heads
        width = int(groups * (getattr(text, "head_dim", None) or width // heads))
    return 2 * 4 * int(text.num_hidden_layers) * width


class EvalBatchSize:
    """Halves batches that do not fit in memory, and remembers the size that fits.

    Attributes:
        limit: Number of examples that fit, as far as known.
    """

    def __init__(self) -> None:
        self.limit = 1 << 40

    def map(self, batches: Sequence[np.ndarray], call: Callable[[np.ndarray], T]) -> Iterator[tuple[np.ndarray, T]]:
        """Call a function for each batch, or for parts of it if the batch does not fit in memory, in order.

        No result is kept here. The caller should not keep a result during the next call either.

        Args:
            batches: Indices of examples.
            call: The function.

        Yields:
            The indices that were passed to the function, and its result.

        Raises:
            torch.OutOfMemoryError: A single example does not fit.
        """
        waiting = list(reversed(batches))
        while waiting:
            examples = waiting.pop()
            if len(examples) > self.limit:
                waiting += [examples[self.limit :], examples[: self.limit]]
                continue
            try:
                result = call(examples)
            except torch.OutOfMemoryError:
                if len(examples) == 1:
                    raise
                self.limit = len(examples) // 2
                waiting.append(examples)
            else:
                yield examples, result
                del result  # frees its memory before the next call
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # only now, because the exception kept the memory of the pass
