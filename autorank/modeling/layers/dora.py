"""DoRA: the norms of the rows of W0 + ΔW are trained parameters, m.

    W' = diag(m / ‖W0 + ΔW‖) (W0 + ΔW), norms by row         Liu et al. 2024 (arXiv 2402.09353), eq. 5

The gradient treats the norm as a constant (§4.3). As in PEFT, dropout is applied to the input of W' - W0 and the bias
is added afterwards. The norms are computed without W' and W0:

    ‖W0 + U A‖² = ‖W0‖² + 2 Σ (W0 Aᵀ) ∘ U + Σ (U A Aᵀ) ∘ U, with U = s · diag(u) · B · diag(e), sums along rows,

where the first term is constant, and W0 Aᵀ is the output of the base layer for the rows of A.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling.layers.adapted_linear import AdaptedLinear, InputConversion
from autorank.modeling.layers.frozen_weight import matrix, product
from autorank.modeling.layers.lora_layer import LowRankUpdate


def squared_row_norms(base: nn.Module) -> Tensor:
    """Return the squared norm of each row of W0: out."""
    return matrix(base).square().sum(dim=1)


@torch.no_grad()
def row_norms(
    base: nn.Module, squares: Tensor, A: Tensor, B: Tensor, scale: float, dtype: torch.dtype
) -> Tensor:  # fmt: skip
    """Compute the norm of each row of W0 + s · B A.

    Args:
        base: The layer with the weight W0.
        squares: Squared norms of the rows of W0: out.
        A: Down projection, rank x in, or lanes x rank x in.
        B: Up projection, out x rank, or lanes x out x rank.
        scale: Factor s of the product.
        dtype: Type of the base layer's input.

    Returns:
        The norms, out, or lanes x out.
    """
    images = product(base, A.reshape(-1, A.shape[-1]).to(dtype))  # images of the rows of A
    base_output = images.view(*A.shape[:-1], images.shape[-1]).mT.to(B.dtype)  # W0 Aᵀ, out x rank
    add_product = torch.addmm if A.dim() == 2 else torch.baddbmm
    with torch.autocast(A.device.type, enabled=False):
        cross_term = add_product(base_output, B, A @ A.mT, beta=2 * scale, alpha=scale**2)
        norms = squares + (cross_term * B).sum(dim=-1)
        return norms.clamp_min_(torch.finfo(B.dtype).tiny).sqrt_()


class DoraLinear(AdaptedLinear):
    """A frozen linear layer plus an update with a factor m, by equation 5 of the DoRA paper.

    Args:
        base: The frozen layer.
        update: The factors, m among them.
        dropout: Probability of dropout on the input of W' - W0.
        convert: Conversion of the input, shared with layers of the same parent; a new one by default.
    """

    squares: Tensor  # squared norms of the rows of W0: out

    def __init__(
        self, base: nn.Module, update: LowRankUpdate, dropout: float = 0.0, convert: InputConversion | None = None
    ) -> None:
        super().__init__(base, update, dropout, convert)
        assert update.m is not None
        self.register_buffer("squares", squared_row_norms(base).to(update.m), persistent=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return W0 x + (W' - W0) dropout(x); arguments as in `AdaptedLinear.forward`."""
        assert self.update.m is not None
        x = self.convert(x)
        dropped = self._dropped(x)
        down, up = self.update.forward_factors()
        up = up if self.update.u is None else up * self.update.u[:, None]
        norms = row_norms(self.base, self.squares, down, up, self.update.scale, x.dtype)
        A, B, scale = self.update.scaled_factors()
        if y is None and dropped is x and self._fuses(x) and A.dtype == x.dtype:
            fused: Tensor = _FusedDora.apply(x, self.base.weight, self.base.bias, A, B, scale, self.update.m, norms)
            return fused.view(*x.shape[:-1], fused.shape[1])  # not within, see `AdaptedLinear.forward`
        y = self.base(x) if y is None else y
        plain: Tensor = y if dropped is x else self.base(dropped)
        gain = self.update.m / norms  # in float32, because steps of m are smaller than 16-bit rounding
        moved = self.update(dropped, plain)
        bias = self.bias
        out = moved * gain if bias is None else torch.addcmul(bias * (1 - gain), moved, gain)
        if dropped is not x:
            out = out + (y - plain)
        return out.to(y.dtype)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """Return W' - W0, out x in."""
        assert self.update.m is not None
        down, up = self.update.folded()
        weight = matrix(self.base)
        moved = weight + self.update.scale * up @ down
        gain: Tensor = self.update.m / moved.norm(dim=1)
        return gain[:, None] * moved - weight


class _FusedDora(torch.autograd.Function):
    """b + m / norms ∘ (W0 x + s · B A x), `tokens x out`, the norms taken as constants."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, scale: float, m: Tensor,
        norms: Tensor,
    ) -> Tensor:  # fmt: skip
        tokens = x.reshape(-1, x.shape[-1])
        down = tokens @ A.t()
        with torch.autocast(x.device.type, enabled=False):  # which would convert to float32 first
            moved = (tokens @ weight.t()).addmm_(down, B.t(), alpha=scale)
            gain = m / norms  # in float32, because steps of m are smaller than 16-bit rounding
            out = torch.empty_like(moved)
            if bias is None:
                torch.mul(moved, gain, out=out)
            else:
                torch.addcmul(bias, moved, gain, out=out)
        ctx.save_for_backward(tokens, down, weight, A, B, moved, gain, norms)
        ctx.shape, ctx.scale = x.shape, scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, down, weight, A, B, moved, gain, norms = ctx.saved_tensors
        outer = gradient.reshape(-1, gradient.shape[-1])
        g_m = (outer.to(norms.dtype) * moved).sum(dim=0) / norms
        g = torch.mul(outer, gain, out=torch.empty_like(outer))
        g_down, g_B = g @ B, g.t() @ down
        if ctx.scale != 1.0:
            g_down, g_B = g_down.mul_(ctx.scale), g_B.mul_(ctx.scale)
        g_x = (g @ weight).addmm_(g_down, A).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return g_x, None, None, g_down.t() @ tokens, g_B, None, g_m, None
