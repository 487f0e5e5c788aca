"""A forward pass that computes what a loss or a score needs, and no more: no cache, logits of predicted tokens only."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import cache
from typing import Any

from torch import Tensor, nn

PREDICTED = "predicted"  # flat positions in the batch, batch x seq, whose logits predict the labels


def call(model: Any, batch: dict[str, Tensor]) -> Any:
    """Call a model with a batch that `collate` made, without labels.

    A language model's logits, batch x seq x vocabulary, are its largest tensor. Only those at the batch's predicted
    positions are computed: hidden states are selected before they enter the model's output layer.

    Args:
        model: The model.
        batch: Its inputs.

    Returns:
        The model's outputs; if the batch has predicted positions, their logits are `1 x positions x vocabulary`.
    """
    options = {"use_cache": False} if _has_cache(model.__class__) else {}  # keys and values are only for generation
    if PREDICTED not in batch:
        return model(**batch, **options)
    inputs = {name: values for name, values in batch.items() if name != PREDICTED}
    tokens, positions = inputs.get("decoder_input_ids", inputs["input_ids"]).shape, batch[PREDICTED]
    selected = False

    def select(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal selected
        if selected or not arguments or arguments[0].shape[:-1] != tokens:
            return None
        selected = True
        return _rows(arguments[0], positions), *arguments[1:]

    head = model.get_output_embeddings()
    with nullcontext() if head is None else head.register_forward_pre_hook(select):
        outputs = model(**inputs, **options)
    if not selected:  # the architecture's output layer is not a module that is called with all tokens
        outputs.logits = _rows(outputs.logits, positions)
    return outputs


@cache
def _has_cache(model_class: type[nn.Module]) -> bool:
    return "use_cache" in inspect.signature(model_class.forward).parameters


def _rows(values: Tensor, positions: Tensor) -> Tensor:
    """Values at flat positions, batch x seq x width -> 1 x positions x width."""
    return values.flatten(0, -2).index_select(0, positions)[None]
