"""DoRA in a pack: W0 + ΔW of each lane, its rows scaled by m / ‖W0 + ΔW‖ (see `modeling/layers/dora.py`).

A lane without DoRA has the gains 1, so that all lanes of a layer share the batched products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling.layers.dora import DoraLinear, row_norms


def gains(base: nn.Module, layers: Sequence[DoraLinear | None], A: Tensor, B: Tensor) -> Tensor:
    """Compute m / ‖W0 + B A‖, row by row, with gradients for m. The norms are constants.

    Args:
        base: The frozen layer.
        layers: The layer of each lane with DoRA.
        A: Factors of the lanes, times their scales, lanes x rank x in, in the type of the inputs of `base`.
        B: Up projections of the lanes, lanes x out x rank.

    Returns:
        Row gains of the lanes, lanes x out, in float32.
    """
    squares = next(layer.squares for layer in layers if layer is not None)
    norms = row_norms(base, squares, A.to(squares.dtype), B.to(squares.dtype), 1.0, A.dtype)
    m = [norms[k] if layer is None else layer.update.m for k, layer in enumerate(layers)]
    return torch.stack(m) / norms  # type: ignore[arg-type]


def fused_dora(
    x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, gain: Tensor
) -> Tensor:  # fmt: skip
    """Compute b + gain_k ∘ (W0 x + B_k A_k x) for lane k.

    Args:
        x: Inputs of the lanes, lanes · batch x seq x in.
        weight: The frozen weight W0, out x in.
        bias: The frozen bias b, out, or None.
        A: Down projections of the lanes, lanes x rank x in.
        B: Up projections of the lanes, lanes x out x rank.
        gain: Row gains m / ‖W0 + ΔW‖, lanes x out.

    Returns:
        Outputs of the lanes, tokens x out.
    """
    out: Tensor = _FusedDoraLanes.apply(x, weight, bias, A, B, gain)
    return out


class _FusedDoraLanes(torch.autograd.Function):
    """b + gain_k ∘ (W0 x + B_k A_k x) for lane k, `tokens x out`, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, gain: Tensor
    ) -> Tensor:  # fmt: skip
        inputs = x.reshape(len(A), -1, x.shape[-1])
        down = torch.bmm(inputs, A.mT)
        with torch.autocast(x.device.type, enabled=False):  # which would convert to float32 first
            moved = (x.reshape(-1, x.shape[-1]) @ weight.t()).view(len(A), -1, len(weight)).baddbmm_(down, B.mT)
            out = torch.empty_like(moved)
            if bias is None:
                torch.mul(moved, gain[:, None], out=out)
            else:
                torch.addcmul(bias, moved, gain[:, None], out=out)
        ctx.save_for_backward(inputs, down, weight, A, B, moved, gain)
        ctx.shape = x.shape
        return out.view(-1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, down, weight, A, B, moved, gain = ctx.saved_tensors
        outer = gradient.reshape(moved.shape)
        g_gain = (outer.to(gain.dtype) * moved).sum(dim=1)
        g = torch.mul(outer, gain[:, None], out=torch.empty_like(outer))
        g_down = torch.bmm(g, B)
        g_B = torch.bmm(g.mT, down)
        g_A = torch.bmm(g_down.mT, inputs)
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = (g.view(-1, g.shape[-1]) @ weight).view(inputs.shape).baddbmm_(g_down, A).view(ctx.shape)
        return g_x, None, None, g_A, g_B, g_gain
