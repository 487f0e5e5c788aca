"""Attention masks in the form that the attention kernel takes, made once for all layers.

From a mask of tokens, batch x seq, transformers makes the kernel's mask in every forward pass, for which it asks the
GPU whether any token is padding, and torch converts it in every layer. Models whose mask is only for attention take
the kernel's mask instead.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

MASK = "attention_mask"
Form = Literal["tokens", "keys", "causal"]


def additive(tokens: Tensor, form: Form, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores: 0, or -inf where a query must not attend to a key.

    Args:
        tokens: 1 for tokens, 0 for padding on the right: batch x seq.
        form: `keys`: the same for all queries; `causal`: also -inf for later keys.
        dtype: Data type in which the model computes.

    Returns:
        batch x 1 x seq x seq.
    """
    allowed = tokens.bool()[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
    if form == "causal":
        allowed = allowed.tril()
    return torch.zeros(allowed.shape, dtype=dtype, device=tokens.device).masked_fill_(~allowed, float("-inf"))


@torch.no_grad()
def find_form(model: nn.Module, batch: dict[str, Tensor], dtype: torch.dtype) -> Form:
    """Find the form with which a model computes the same, bit for bit, as with a mask of tokens.

    Args:
        model: The model in evaluation mode.
        batch: Inputs in which at least one example has padding.
        dtype: Data type in which the model computes.

    Returns:
        The form; `tokens` if there is no other.
    """
    if MASK not in batch or "decoder_input_ids" in batch or batch[MASK].ndim != 2 or _has_windows(model):
        return "tokens"
    expected = first(model(**batch))
    forms: tuple[Form, ...] = ("keys", "causal")
    for form in forms:
        try:
            outputs = first(model(**batch | {MASK: additive(batch[MASK], form, dtype)}))
        except (RuntimeError, ValueError, IndexError):
            continue  # another shape was expected
        rows = batch[MASK].bool() if outputs.shape[:2] == batch[MASK].shape else slice(None)
        if torch.equal(outputs[rows], expected[rows]):
            return form
    return "tokens"


def _has_windows(model: nn.Module) -> bool:
    """Whether layers do not attend to all tokens (ModernBERT, Mistral, Gemma); in short texts they do."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    if layer_types := getattr(config, "layer_types", None):
        return any(kind != "full_attention" for kind in layer_types)
    return any(getattr(config, name, None) for name in ("sliding_window", "local_attention", "attention_chunk_size"))


def first(outputs: object) -> Tensor:
    """The first tensor of a model's outputs: the logits."""
    logits: Tensor = next(iter(outputs.values()))  # type: ignore[attr-defined]
    return logits
