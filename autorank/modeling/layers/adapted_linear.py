"""A frozen linear layer with a low-rank update."""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.modeling.layers.lora_layer import LowRankUpdate


class InputConversion:
    """Converts inputs to autocast's type, once for layers in a row with the same input (query, key, value)."""

    def __init__(self) -> None:
        # weak references to the last input and its conversion, and the version of the input
        self._last: tuple[weakref.ref[Tensor], int, weakref.ref[Tensor]] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` in autocast's type; the previous result if `x` is the previous input and has not changed."""
        device = x.device.type
        if x.dtype != torch.float32 or not torch.is_autocast_enabled(device):
            return x
        dtype = torch.get_autocast_dtype(device)
        if x.is_inference():  # has no version, by which a change in place is noticed
            return x.to(dtype)
        if self._last is not None and self._last[0]() is x and self._last[1] == x._version:
            previous = self._last[2]()
            if previous is not None and previous.dtype == dtype and previous.requires_grad == x.requires_grad:
                return previous
        converted = x.to(dtype)
        self._last = weakref.ref(x), x._version, weakref.ref(converted)
        return converted


class AdaptedLinear(nn.Module):
    """A frozen linear layer plus a low-rank update of it.

    Args:
        base: The frozen layer; its output has the last dimension `out`.
        update: The factors, which several layers may share.
        dropout: Probability of dropout on the input of the update.
        convert: Conversion of the input, shared with layers of the same parent; a new one by default.

    Attributes:
        position_queries: False if DeBERTa's position queries pass through `base` alone (see position_queries.py).
    """

    base: nn.Module
    update: LowRankUpdate
    position_queries: bool = True

    def __init__(
        self, base: nn.Module, update: LowRankUpdate, dropout: float = 0.0, convert: InputConversion | None = None
    ) -> None:
        super().__init__()
        self.base = base
        self.update = update
        self.dropout = dropout
        self.convert = convert or InputConversion()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Apply the layer and its update.

        Args:
            x: Input of the layer, batch x seq x in.
            y: Output of the base for `x`, batch x seq x out; None: it is computed.

        Returns:
            Output of the layer, batch x seq x out.
        """
        x = self.convert(x)
        if y is None and self._fuses(x):
            dropped = self._dropped(x)
            A, B, scale = self.update.scaled_factors()
            if A.dtype == x.dtype:
                fused: Tensor = _Fused.apply(
                    x, None if dropped is x else dropped, self.base.weight, self.base.bias, A, B, scale
                )
                return fused.view(*x.shape[:-1], fused.shape[1])  # not within: some models change such views in place
        out: Tensor = self.update(self._dropped(x), self.base(x) if y is None else y)
        return out

    def _fuses(self, x: Tensor) -> bool:
        """Whether base and update are computed in one function: plain layers whose parts nobody observes."""
        base, update = self.base, self.update
        return (
            type(base) is nn.Linear and base.weight.dtype == x.dtype  # quantized weights have another type
            and not base.weight.requires_grad and (base.bias is None or not base.bias.requires_grad)
            and update.components > 0 and update.u is None and x.numel() > 0
            and not (base._forward_hooks or base._forward_pre_hooks or update._forward_hooks)
        )  # fmt: skip

    def delta_weight(self) -> Tensor:
        """Return ΔW, out x in: the difference between the adapted layer's weight and the base's."""
        return self.update.delta_weight()

    def _dropped(self, x: Tensor) -> Tensor:
        """The update's input; `x` itself where no dropout acts."""
        return F.dropout(x, self.dropout) if self.dropout and self.training and self.update.components else x

    @property
    def weight(self) -> Tensor:
        """The base's weight; some architectures read it, for example for its data type."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base.bias  # type: ignore[return-value]


class _Fused(torch.autograd.Function):
    """W0 x + b + s · B A d with d the update's input, `tokens x out`, and its gradients, without tensors in between."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor,
        scale: float,
    ) -> Tensor:  # fmt: skip
        tokens = x.reshape(-1, x.shape[-1])
        inputs = tokens if dropped is None else dropped.reshape(tokens.shape)
        y = tokens @ weight.t() if bias is None else torch.addmm(bias, tokens, weight.t())
        down = inputs @ A.t()
        y.addmm_(down, B.t(), alpha=scale)
        ctx.save_for_backward(inputs, down, weight, A, B)
        ctx.shape, ctx.apart, ctx.scale = x.shape, dropped is not None, scale
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, down, weight, A, B = ctx.saved_tensors
        g = gradient.reshape(-1, gradient.shape[-1])
        g_down = g @ B
        g_B = g.t() @ down
        if ctx.scale != 1.0:
            g_down, g_B = g_down.mul_(ctx.scale), g_B.mul_(ctx.scale)
        g_x = g_dropped = None
        if ctx.needs_input_grad[0]:
            g_x = g @ weight
            if not ctx.apart:
                g_x.addmm_(g_down, A)
            g_x = g_x.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            g_dropped = (g_down @ A).view(ctx.shape)
        return g_x, g_dropped, None, None, g_down.t() @ inputs, g_B, None
