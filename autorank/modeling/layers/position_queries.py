"""DeBERTa's relative positions, the second input of the query and key projections in each forward pass.

DeBERTa-v2 and -v3 pass the embeddings of relative positions through these projections too (`share_att_key`). The
modeling files of AdaLoRA and IncreLoRA apply the pretrained weights alone to the position queries; the position keys
have the update.
"""

from __future__ import annotations

from typing import Any

from torch import nn

BIAS = "disentangled_attention_bias"  # the method of the attention module that uses the positions


def has_update_on_position_queries(attention: nn.Module, child: str) -> bool:
    """Whether an update of the layer `child` of `attention` applies to position queries."""
    return child == "query_proj" and bool(getattr(attention, "share_att_key", False)) and hasattr(attention, BIAS)


def exclude_position_queries(attention: Any) -> None:
    """Apply the base layer alone to the position queries of `attention`, whose query projection is adapted."""
    bias = getattr(attention, BIAS)

    def without_update(*args: Any, **kwargs: Any) -> Any:
        layer = attention.query_proj
        attention.query_proj = layer.base
        try:
            return bias(*args, **kwargs)
        finally:
            attention.query_proj = layer

    setattr(attention, BIAS, without_update)


def restore_position_queries(attention: nn.Module) -> None:
    """Undo `exclude_position_queries`."""
    attention.__dict__.pop(BIAS, None)


class TokenInputs:
    """Tells inputs of layers that are tokens from DeBERTa's relative positions.

    Other layers may be called several times in a forward pass, always with tokens (ALBERT).

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        owners = [name for name, module in model.named_modules() if hasattr(module, BIAS)]
        self._projections = {f"{owner}.{child}" for owner in owners for child in ("query_proj", "key_proj")}
        self._reached: set[str] = set()

    def begin(self) -> None:
        """Begin a forward pass."""
        self._reached.clear()

    def next_is_tokens(self, name: str) -> bool:
        """Return whether the input with which a layer is called now is tokens. Call it for each input."""
        is_tokens = name not in self._reached
        if name in self._projections:
            self._reached.add(name)
        return is_tokens
