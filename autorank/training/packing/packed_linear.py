"""A frozen linear layer with the updates of several lanes.

The frozen product is computed once for all lanes. Plain updates are two batched products over the lanes, their ranks
padded with zeros (`packed_factors`); so are DoRA's (`packed_dora`). Other layers (with hooks, VeRA) compute the rows of
their lane themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.modeling.layers.adapted_linear import AdaptedLinear, InputConversion
from autorank.training.packing.lane_rows import LaneRows
from autorank.training.packing.packed_dora import fused_dora


class PackedLinear(nn.Module):
    """A frozen linear layer, and for each lane its adapted layer over the same base.

    Args:
        base: The frozen layer.
        layers: The adapted layer of each lane; None for a lane that does not adapt it.
        rows: The lanes of the current pass.
        convert: Conversion of the input, shared with layers of the same parent.

    Attributes:
        factors: A, lanes x rank x in, and B, lanes x out x rank, of the current pass; None: no lane is batched.
        gains: Factors of the rows of W0 + ΔW, lanes x out (see `packed_dora`); None: no batched lane has DoRA.
        apart: Positions in the current pass of lanes whose layer computes its rows itself.
    """

    base: nn.Module

    def __init__(
        self, base: nn.Module, layers: Sequence[AdaptedLinear | None], rows: LaneRows, convert: InputConversion
    ) -> None:
        super().__init__()
        self.base = base
        self._layers = tuple(layers)  # not registered as modules: they belong to the models of the lanes
        self._rows, self._convert = rows, convert
        self.factors: tuple[Tensor, Tensor] | None = None
        self.gains: Tensor | None = None
        self.apart: frozenset[int] = frozenset()

    @property
    def current(self) -> list[AdaptedLinear | None]:
        """The layers of the lanes of the current pass."""
        return [self._layers[lane] for lane in self._rows.lanes]

    @property
    def weight(self) -> Tensor:
        """The base's weight; some architectures read it, for example for its data type."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x`: batch x seq x in, to batch x seq x out."""
        x = self._convert(x)
        self._rows.check(x)
        y = self._batched(x)
        if not self.apart:
            return y
        parts = zip(self.current, self._rows.split(x), self._rows.split(y), strict=True)
        return torch.cat(
            [layer(x, y) if k in self.apart and layer is not None else y for k, (layer, x, y) in enumerate(parts)]
        )

    def _batched(self, x: Tensor) -> Tensor:
        """The frozen product, plus the updates of batched lanes."""
        if self.factors is None:
            return self.base(x)  # type: ignore[no-any-return]
        A, B = self.factors
        dropped = self._dropped(x)
        if self._fuses(x) and A.dtype == x.dtype and (self.gains is None or dropped is x):
            weight, bias = self.weight, self.bias
            fused: Tensor = (
                _FusedLanes.apply(x, None if dropped is x else dropped, weight, bias, A, B)
                if self.gains is None
                else fused_dora(x, weight, bias, A, B, self.gains)
            )
            return fused.view(*x.shape[:-1], fused.shape[1])  # not within: some models change such views in place
        y: Tensor = self.base(x)
        plain = y if self.gains is None or dropped is x else self.base(dropped)
        lanes = len(self._rows.lanes)
        down = dropped.reshape(lanes, -1, x.shape[-1]).to(A.dtype) @ A.mT
        moved = torch.baddbmm(plain.reshape(lanes, -1, y.shape[-1]).to(down.dtype), down, B.mT)
        if self.gains is not None:
            gains = self.gains[:, None]
            moved = moved * gains if self.bias is None else torch.addcmul(self.bias * (1 - gains), moved, gains)
        out: Tensor = moved.view(y.shape)
        return (out if plain is y else out + (y - plain)).to(y.dtype)

    def _fuses(self, x: Tensor) -> bool:
        base = self.base
        return (
            type(base) is nn.Linear and base.weight.dtype == x.dtype and x.numel() > 0
            and not (base._forward_hooks or base._forward_pre_hooks)
        )  # fmt: skip

    def _dropped(self, x: Tensor) -> Tensor:
        """The input of the batched updates; each lane has its own probability of dropout."""
        rates = tuple(
            0.0 if layer is None or k in self.apart or not layer.training else layer.dropout
            for k, layer in enumerate(self.current)
        )
        if len(set(rates)) == 1:
            return F.dropout(x, rates[0]) if rates[0] else x
        keep_probs = _keep_probs(rates, x.device)
        noise = torch.bernoulli(keep_probs[:, None].expand(len(rates), x.numel() // len(rates))).div_(
            keep_probs[:, None]
        )
        return x * noise.view(x.shape).to(x.dtype)


@lru_cache(maxsize=64)
def _keep_probs(rates: tuple[float, ...], device: torch.device) -> Tensor:
    """The probability that an entry is kept, lanes; cached, because a copy to a GPU would wait for it."""
    return torch.tensor([1 - rate for rate in rates]).to(device)


class _FusedLanes(torch.autograd.Function):
    """W0 x + b + B_k A_k d_k for lane k with d the update's input, `tokens x out`, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor
    ) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        inputs = (tokens if dropped is None else dropped).reshape(len(A), -1, x.shape[-1])
        y = tokens @ weight.t() if bias is None else torch.addmm(bias, tokens, weight.t())
        down = torch.bmm(inputs, A.mT)
        y.view(len(A), -1, y.shape[1]).baddbmm_(down, B.mT)
        ctx.save_for_backward(inputs, down, weight, A, B)
        ctx.shape, ctx.has_dropout = x.shape, dropped is not None
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, down, weight, A, B = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        g = flat.view(len(A), -1, flat.shape[1])
        g_down = torch.bmm(g, B)
        g_B = torch.bmm(g.mT, down)
        g_A = torch.bmm(g_down.mT, inputs)
        g_x = g_dropped = None
        if ctx.needs_input_grad[0]:
            g_x = flat @ weight
            if not ctx.has_dropout:
                g_x.view(inputs.shape).baddbmm_(g_down, A)
            g_x = g_x.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            g_dropped = torch.bmm(g_down, A).view(ctx.shape)
        return g_x, g_dropped, None, None, g_A, g_B
