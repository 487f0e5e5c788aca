"""Greedy decoding without sampling, beam search or penalties, whatever the checkpoint's generation config says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


def greedy(ends: Sequence[int], pad: int, start: int | None, longest: int | None = None) -> GenerationConfig:
    """A generation config that selects the most likely token at each step, up to an end token.

    Args:
        ends: End tokens.
        pad: Padding token.
        start: First token of an encoder-decoder's decoder.
        longest: Maximum number of new tokens. None: transformers' default.

    Returns:
        The generation config.
    """
    from transformers import GenerationConfig

    end = list(ends) if len(ends) > 1 else ends[0]
    return GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=longest, eos_token_id=end, pad_token_id=pad,
        decoder_start_token_id=start,
    )  # fmt: skip


@contextmanager
def generating(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Replace the model's generation config within this context; transformers would merge it with the checkpoint's."""
    original = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = original
