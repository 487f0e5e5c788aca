"""DeBERTa's position queries without the update of the query projection, as published code has them.

DeBERTa-v2 and -v3 pass the embeddings of relative positions through the query and key projections too
(`share_att_key`). The modeling files of AdaLoRA and IncreLoRA apply the pretrained weights alone to the position
queries; the position keys have the update.
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
