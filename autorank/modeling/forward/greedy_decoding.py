"""Greedy decoding without sampling, beam search or penalties; the checkpoint's generation config is ignored."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHECK_EVERY = 4  # tokens between checks for completions that have ended (ours)
SMALLEST = 4  # rows of the smallest batch that is made smaller (ours)

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


def complete(
    model: Any, prompts: Mapping[str, Tensor], ends: Sequence[int], longest: int, observe: Callable[..., Tensor]
) -> list[list[int]]:
    """Generate a completion for each prompt, within `generating`.

    Decoder-only models: when half of the rows of a batch have ended, these are dropped, with their keys and values, and
    the others go on without them.

    Args:
        model: The model.
        prompts: input_ids and attention_mask, `batch x seq`.
        ends: End tokens.
        longest: Maximum number of new tokens.
        observe: Called with the tokens so far and the logits of each new token; returns the logits (see
            transformers' `LogitsProcessor`).

    Returns:
        The tokens of each completion, perhaps followed by padding.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    processors = LogitsProcessorList([observe])
    cache = _new_cache(model)
    if not cache:
        first = 1 if model.config.is_encoder_decoder else prompts["input_ids"].shape[1]
        generated = model.generate(**prompts, logits_processor=processors)
        ids: list[list[int]] = generated[:, first:].tolist()
        return ids
    tokens, mask = prompts["input_ids"], prompts["attention_mask"]
    first, rows = tokens.shape[1], list(range(len(tokens)))
    completions: list[list[int]] = [[] for _ in rows]
    while rows:
        criteria = [_HalfEnded(tokens, ends, first)] if len(rows) >= SMALLEST else []
        tokens = model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=first + longest - tokens.shape[1], **cache,
            logits_processor=processors, stopping_criteria=StoppingCriteriaList(criteria),
        )  # fmt: skip
        new_tokens = tokens[:, first:].tolist()
        for row, completion in zip(rows, new_tokens, strict=True):
            completions[row] = completion
        if tokens.shape[1] == first + longest:
            break
        going_on = [k for k, completion in enumerate(new_tokens) if not set(ends).intersection(completion)]
        rows = [rows[k] for k in going_on]
        if rows:
            selected = torch.tensor(going_on, device=tokens.device)
            tokens, mask = tokens[selected], mask[selected]
            mask = F.pad(mask, (0, tokens.shape[1] - mask.shape[1]), value=1)
            for values in cache.values():
                values.batch_select_indices(selected)
    return completions


def _new_cache(model: Any) -> dict[str, Any]:
    """An empty cache as an argument of the model; empty if rows of the model's cache cannot be dropped."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    config, parameters = model.config, inspect.signature(model.forward).parameters
    names = [name for name in ("cache", "past_key_values") if name in parameters]  # it depends on the version
    if config.is_encoder_decoder or not names or not type(model).__module__.startswith("transformers."):
        return {}
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    can_drop_rows = cache.layers and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
    return {names[0]: cache} if can_drop_rows and model._supports_default_dynamic_cache() else {}


class _HalfEnded:
    """A stopping criterion: half of the completions have ended. It is checked on the device, every few tokens.

    Args:
        tokens: The tokens so far, `batch x seq`.
        ends: End tokens.
        first: Position of the first new token.
    """

    def __init__(self, tokens: Tensor, ends: Sequence[int], first: int) -> None:
        self._ends = torch.tensor(ends, device=tokens.device)
        self._no = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        self._first, self._calls = first, 0

    def __call__(self, tokens: Tensor, scores: Any, **_: Any) -> Tensor:
        """Return whether to stop, equal for all rows: `batch`."""
        self._calls += 1
        if self._calls % CHECK_EVERY:
            return self._no
        ended = torch.isin(tokens[:, self._first :], self._ends).any(dim=1)
        return (2 * ended.sum() >= len(tokens)).expand(len(tokens))
