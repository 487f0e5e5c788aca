"""A frozen linear layer with a low-rank update."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from autorank.modeling.layers.lora_layer import LowRankUpdate


class AdaptedLinear(nn.Module):
    """A frozen linear layer plus a low-rank update of it.

    Args:
        base: the frozen layer; its output has the last dimension `out`.
        update: the factors, which several layers may share.
        dropout: probability of dropout on the input of the update.

    Attributes:
        position_queries: False if DeBERTa's position queries pass through `base` alone (see position_queries.py).
    """

    base: nn.Module
    update: LowRankUpdate
    position_queries: bool = True

    def __init__(self, base: nn.Module, update: LowRankUpdate, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base
        self.update = update
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and its update to `x`: batch x seq x in, to batch x seq x out."""
        y: Tensor = self.base(x)
        out: Tensor = self.update(self._dropped(x), y)
        return out

    def delta_weight(self) -> Tensor:
        """Return ΔW, out x in: the difference between the adapted layer's weight and the base's."""
        return self.update.delta_weight()

    def _dropped(self, x: Tensor) -> Tensor:
        """The update's input; `x` itself where no dropout acts."""
        return F.dropout(x, self.dropout) if self.dropout and self.training and self.update.held else x

    @property
    def weight(self) -> Tensor:
        """The base's weight; some architectures read it, for example for its data type."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base.bias  # type: ignore[return-value]
