"""The factors of all updates as forward passes use them, computed at once in a few kernels.

A forward pass needs s · diag(e) · A and B in the precision in which it computes. Here they are computed once for all
layers while the weights do not change: for the micro-batch of a training step, and for all batches of an evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from autorank.modeling.layers.batched_factors import BatchedFactors
from autorank.modeling.layers.lora_layer import LowRankUpdate


@contextmanager
def prepared(updates: Iterable[LowRankUpdate], dtype: torch.dtype | None) -> Iterator[None]:
    """Prepare the factors of updates for forward passes, and their backward passes, within this context.

    In training mode gradients flow to the factors. Weights must not change within the context. Updates with a frozen A
    or a start are left out: they share factors, or combine them otherwise.

    Args:
        updates: The updates; equal ones count once.
        dtype: Type in which the passes compute (autocast's); None: that of the factors.
    """
    distinct = dict.fromkeys(updates)
    ready = [update for update in distinct if update.components and update.A.requires_grad and update.A0 is None]
    if ready:
        factors = _trained(ready, dtype) if torch.is_grad_enabled() and ready[0].training else _fixed(ready, dtype)
        for update, pair in zip(ready, factors, strict=True):
            update.prepared = pair
    try:
        yield
    finally:
        for update in ready:
            update.prepared = None


@torch.no_grad()
def _fixed(updates: Sequence[LowRankUpdate], dtype: torch.dtype | None) -> list[tuple[Tensor, Tensor]]:
    """Factors for passes without gradients."""
    pairs = [update.forward_factors() for update in updates]
    return [
        ((A * update.scale).to(dtype or A.dtype), B.to(dtype or B.dtype))
        for update, (A, B) in zip(updates, pairs, strict=True)
    ]


def _trained(updates: Sequence[LowRankUpdate], dtype: torch.dtype | None) -> list[tuple[Tensor, Tensor]]:
    """Factors for training, with gradients for A, B and e."""
    downs = [update.A for update in updates]
    ups = [update.B for update in updates]
    gates = [update.e for update in updates if update.e is not None]
    scales = tuple(update.scale for update in updates)
    gated = tuple(update.e is not None for update in updates)
    prepared = _Prepared.apply(scales, gated, dtype or downs[0].dtype, *downs, *ups, *gates)
    count = len(updates)
    if dtype is None or dtype == ups[0].dtype:
        return list(zip(prepared, ups, strict=True))
    return list(zip(prepared[:count], prepared[count:], strict=True))


class _Prepared(torch.autograd.Function):
    """s · diag(e) · A of all updates and, if its type changes, B. Layers of equal width are computed together."""

    @staticmethod
    def forward(
        ctx: Any, scales: tuple[float, ...], gated: tuple[bool, ...], dtype: torch.dtype, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(scales)
        downs, ups, gates = factors[:count], factors[count : 2 * count], iter(factors[2 * count :])
        stacks = BatchedFactors([(A.shape[0], A.shape[1]) for A in downs])
        stacked = stacks.stack(downs)
        rows = [next(gates) if has_gate else None for has_gate in gated]
        multipliers = [_multiplier(stacks, i, scales, rows, downs[0]) for i in range(len(stacked))]
        out = []
        for values, multiplier in zip(stacked, multipliers, strict=True):
            product = values.new_empty(values.shape, dtype=dtype)
            torch.mul(values, multiplier, out=product)
            out.append(product)
        ctx.stacks, ctx.scales, ctx.gated, ctx.converts = stacks, scales, gated, dtype != ups[0].dtype
        ctx.shapes = [B.shape for B in ups]
        ctx.multipliers = multipliers
        ctx.save_for_backward(*(stacked if any(gated) else ()))
        if not ctx.converts:
            return tuple(stacks.split(out))
        sizes = [B.numel() for B in ups]
        flat = torch.cat([B.reshape(-1) for B in ups]).to(dtype).split(sizes)
        return *stacks.split(out), *(part.view(B.shape) for part, B in zip(flat, ups, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        stacks, count = ctx.stacks, len(ctx.scales)
        stacked = stacks.stack(gradients[:count])
        downs = stacks.split([g * m for g, m in zip(stacked, ctx.multipliers, strict=True)])
        ups: list[Tensor | None] = [None] * count
        if ctx.converts:
            sizes = [shape.numel() for shape in ctx.shapes]
            flat = torch.cat([g.reshape(-1) for g in gradients[count:]]).float().split(sizes)
            ups = [part.view(shape) for part, shape in zip(flat, ctx.shapes, strict=True)]
        gates: list[Tensor] = []
        if any(ctx.gated):
            per_row = [(g * A).sum(1) for g, A in zip(stacked, ctx.saved_tensors, strict=True)]
            scaled = [
                rows * _scale_rows(tuple(ctx.scales[k] for k in members), tuple(lengths), rows.dtype, rows.device)
                for rows, members, lengths in zip(per_row, stacks.members, stacks.lengths, strict=True)
            ]
            gates = [part for part, has_gate in zip(stacks.split(scaled), ctx.gated, strict=True) if has_gate]
        return None, None, None, *downs, *ups, *gates


def _multiplier(
    stacks: BatchedFactors, index: int, scales: Sequence[float], gates: Sequence[Tensor | None], like: Tensor
) -> Tensor | float:
    """What the rows of a stack are multiplied by: a number, or one per row."""
    members, lengths = stacks.members[index], stacks.lengths[index]
    chosen = tuple(scales[i] for i in members)
    if all(gates[i] is None for i in members) and len(set(chosen)) == 1:
        return chosen[0]
    rows = _scale_rows(chosen, tuple(lengths), like.dtype, like.device)
    if any(gates[i] is not None for i in members):
        gate_rows = [like.new_ones(n) if (e := gates[i]) is None else e for i, n in zip(members, lengths, strict=True)]
        rows = torch.cat(gate_rows) * rows
    return rows[:, None]


@lru_cache(maxsize=64)
def _scale_rows(
    scales: tuple[float, ...], lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:  # fmt: skip
    """The scale of each row, rows; kept, because a copy to a GPU would wait for it."""
    values = [scale for scale, length in zip(scales, lengths, strict=True) for _ in range(length)]
    return torch.tensor(values, dtype=dtype).to(device)
