"""DoRA: the rows of W0 + ΔW are given norms of their own, m, which are trained.

    W' = diag(m / ‖W0 + ΔW‖) (W0 + ΔW), norms by row         Liu et al. 2024 (arXiv 2402.09353), eq. 5

To the gradient the norm is a constant (§4.3). As in PEFT dropout acts on the input of W' - W0, and the bias stands
outside. The norms come without W' and without W0:

    ‖W0 + U A‖² = ‖W0‖² + 2 Σ (W0 Aᵀ) ∘ U + Σ (U A Aᵀ) ∘ U, with U = s · diag(u) · B · diag(e), sums along rows,

of which the first is known once and for all, and W0 Aᵀ is what the base layer gives for the rows of A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autorank.modeling.layers.frozen_weight import matrix, product

if TYPE_CHECKING:
    from autorank.modeling.layers.lora_layer import AdaptedLinear


def squares(base: nn.Module) -> Tensor:
    """Squared norm of each row of W0: out."""
    return matrix(base).square().sum(dim=1)


def forward(layer: AdaptedLinear, x: Tensor, dropped: Tensor, y: Tensor) -> Tensor:
    """y + (W' - W0) · dropped: ... x out.

    Args:
        x, dropped: input before and after dropout, ... x in; the same object where there was none.
        y: the base layer's output for x.
    """
    assert layer.update.m is not None
    plain = y if dropped is x else layer.base(dropped)
    gain = layer.update.m / norms(layer, x.dtype)  # in float32, as m is: what it learns is below 16 bits' rounding
    moved = layer.update(dropped, plain)
    bias = layer.bias
    out = moved * gain if bias is None else torch.addcmul(bias * (1 - gain), moved, gain)
    if dropped is not x:
        out = out + (y - plain)
    return out.to(y.dtype)


@torch.no_grad()
def norms(layer: AdaptedLinear, dtype: torch.dtype) -> Tensor:
    """Norm of each row of W0 + ΔW: out. dtype: what the base layer takes."""
    assert layer.squares is not None
    A, B = layer.update.used()
    seen = product(layer.base, A.to(dtype))  # rank x out
    with torch.autocast(A.device.type, enabled=False):
        U = layer.update.scale * (B if layer.update.u is None else B * layer.update.u[:, None])
        rest = 2 * seen.t().to(U.dtype) + U @ (A @ A.t())
        return (layer.squares + (rest * U).sum(dim=1)).clamp_min(torch.finfo(U.dtype).tiny).sqrt()


@torch.no_grad()
def delta_weight(layer: AdaptedLinear) -> Tensor:
    """W' - W0, out x in."""
    assert layer.update.m is not None
    down, up = layer.update.folded()
    weight = matrix(layer.base)
    moved = weight + layer.update.scale * up @ down
    gain: Tensor = layer.update.m / moved.norm(dim=1)
    return gain[:, None] * moved - weight
