"""Greedy generation, whatever a checkpoint's own generation config says: no sampling, no beams, no penalties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


def greedy(end: int, pad: int, start: int | None, longest: int | None = None) -> GenerationConfig:
    """The likeliest token each time, up to the end token.

    end, pad, start: tokens; the last starts an encoder-decoder's decoder. longest: at most so many tokens.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=longest, eos_token_id=end, pad_token_id=pad,
        decoder_start_token_id=start,
    )  # fmt: skip


@contextmanager
def generating(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """The model with this generation config alone: what it leaves open, transformers takes from the checkpoint's."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own
