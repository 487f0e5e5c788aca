"""Factors of many updates stacked into a few matrices, so one kernel computes for all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from autorank.modeling.layers.lora_layer import LowRankUpdate

CACHED_PADDINGS = 8  # cached paddings, one for each combination of ranks


def rows(update: LowRankUpdate) -> list[Tensor]:
    """The factors A, B and e as views with one row per component: rank x in, rank x out, rank x 1."""
    views = [update.A, update.B.t()]
    return views if update.e is None else [*views, update.e[:, None]]


def gradient_rows(update: LowRankUpdate) -> list[Tensor]:
    """The gradients of the factors in the form of `rows`; zero for factors without a gradient."""
    factors = [factor for factor in (update.A, update.B, update.e) if factor is not None]
    A, B, *e = (torch.zeros_like(factor) if factor.grad is None else factor.grad for factor in factors)
    return [A, B.t(), *(values[:, None] for values in e)]


class BatchedFactors:
    """Stacks matrices of equal width, in the given order.

    Args:
        shapes: (rows, width) of each matrix.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        by_width: dict[int, list[int]] = {}
        for i, (_, width) in enumerate(shapes):
            by_width.setdefault(width, []).append(i)
        self.members = list(by_width.values())
        self.lengths = [[shapes[i][0] for i in members] for members in self.members]

    def stack(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """Concatenate the rows of the matrices of each width: one matrix per width."""
        return [torch.cat([matrices[i] for i in members]) for members in self.members]

    def split(self, stacked: Sequence[Tensor]) -> list[Tensor]:
        """Split stacked matrices into views of the original shapes, in the original order."""
        parts: dict[int, Tensor] = {}
        for members, lengths, matrix in zip(self.members, self.lengths, stacked, strict=True):
            parts.update(zip(members, matrix.split(lengths), strict=True))
        return [parts[i] for i in range(len(parts))]


class Orthogonality:
    """Mean of ‖AAᵀ - I‖_F and ‖BᵀB - I‖_F over all factors of rank above 0 (AdaLoRA, eq. 4; not squared, as its code).

    Components that exist only in training are included.
    """

    def __init__(self) -> None:
        self._paddings: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, updates: Sequence[LowRankUpdate]) -> Tensor:
        """Compute the penalty: a scalar with gradients for every A and B."""
        factors = [matrix for update in updates if update.components for matrix in rows(update)[:2]]
        value: Tensor = _Orthogonality.apply(self._padding, *factors)
        return value

    def _padding(self, lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Row indices in the padded stack, and the identity of each matrix: matrices x longest x longest."""
        if (key := tuple(lengths)) not in self._paddings:
            if len(self._paddings) >= CACHED_PADDINGS:
                self._paddings.clear()  # ranks have changed
            longest = max(lengths)
            index = torch.cat([torch.arange(n) + i * longest for i, n in enumerate(lengths)])
            ones = torch.zeros(len(lengths) * longest).index_fill_(0, index, 1.0)
            self._paddings[key] = index.to(device), torch.diag_embed(ones.view(-1, longest)).to(device)
        return self._paddings[key]


class _Orthogonality(torch.autograd.Function):
    """Pads matrices to the longest of their width and computes value and gradient in a few batched products."""

    @staticmethod
    def forward(ctx: Any, padding: Callable[..., tuple[Tensor, Tensor]], *matrices: Tensor) -> Tensor:
        stacks = BatchedFactors([(m.shape[0], m.shape[1]) for m in matrices])
        total = torch.zeros((), device=matrices[0].device)
        gradients = []
        for lengths, matrix in zip(stacks.lengths, stacks.stack(matrices), strict=True):
            index, identity = padding(lengths, matrix.device)
            padded = matrix.new_zeros(len(lengths) * max(lengths), matrix.shape[1]).index_copy_(0, index, matrix)
            padded = padded.view(len(lengths), max(lengths), -1)
            off = torch.baddbmm(identity, padded, padded.mT, beta=-1)
            norms = off.flatten(1).norm(dim=1)
            total += norms.sum()
            off /= norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None, None]
            gradients.append((2 / len(matrices)) * torch.bmm(off, padded).flatten(0, 1)[index])
        ctx.save_for_backward(*stacks.split(gradients))
        return total / len(matrices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *torch._foreach_mul(list(ctx.saved_tensors), gradient)
