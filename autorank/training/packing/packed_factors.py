"""The factors of the updates of all lanes, stacked for each packed layer in a few kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.dora import DoraLinear
from autorank.modeling.layers.prepared_factors import prepared
from autorank.training.packing.packed_dora import gains
from autorank.training.packing.packed_linear import PackedLinear

Ranks = tuple[tuple[int, tuple[int, ...]], ...]
"""For each layer: output features, and the rank of each lane."""


@contextmanager
def packed(layers: Sequence[PackedLinear], dtype: torch.dtype | None) -> Iterator[None]:
    """Stack the factors of the lanes of the current pass for its forward and backward pass, within this context.

    Args:
        layers: The layers.
        dtype: Type in which the pass computes (autocast's); None: that of the factors.
    """
    updates = [lane.update for layer in layers for lane in layer.current if lane is not None]
    with prepared(updates, dtype):
        try:
            _stack(layers, dtype)
            yield
        finally:
            for layer in layers:
                layer.factors, layer.gains, layer.apart = None, None, frozenset()


def _stack(layers: Sequence[PackedLinear], dtype: torch.dtype | None) -> None:
    """Set the factors of all layers."""
    chosen, downs, ups = [], [], []
    for layer in layers:
        current = layer.current
        batched = _batched(current)
        layer.apart = frozenset(
            k for k, lane in enumerate(current) if lane is not None and not batched[k] and _acts(lane)
        )
        if any(batched):
            pairs = [_factors(lane, dtype) if batched[k] and lane else None for k, lane in enumerate(current)]
            chosen.append(layer)
            downs.append([None if pair is None else pair[0] for pair in pairs])
            ups.append([None if pair is None else pair[1] for pair in pairs])
    for layer, A, B in zip(chosen, padded_rows(downs), padded_columns(ups), strict=True):
        layer.factors = A, B
        lanes = [None if k in layer.apart else _dora(lane) for k, lane in enumerate(layer.current)]
        layer.gains = gains(layer.base, lanes, A, B) if any(lanes) else None


def _batched(layers: Sequence[AdaptedLinear | None]) -> list[bool]:
    """Which layers of lanes share batched products: W0 x + s · B · diag(e) · A x, DoRA, and nobody observes it."""
    batched = [layer is not None and _batches(layer) for layer in layers]
    dora = [_dora(layer) is not None for layer in layers]
    kinds = {of_dora for of_dora, shares in zip(dora, batched, strict=True) if shares}
    if len(kinds) == 2 and any(layer is not None and layer.training and layer.dropout for layer in layers):
        # with dropout DoRA needs the frozen product of the dropped input, too; other lanes do without
        batched = [shares and not of_dora for of_dora, shares in zip(dora, batched, strict=True)]
    return batched


def _dora(layer: AdaptedLinear | None) -> DoraLinear | None:
    return layer if isinstance(layer, DoraLinear) else None


def _batches(layer: AdaptedLinear) -> bool:
    update = layer.update
    observed = layer._forward_hooks or layer._forward_pre_hooks or update._forward_hooks or update._forward_pre_hooks
    return type(layer) in (AdaptedLinear, DoraLinear) and update.u is None and update.components > 0 and not observed


def _acts(layer: AdaptedLinear) -> bool:
    """Whether a layer differs from its base, or is observed."""
    observed = bool(layer._forward_pre_hooks or layer._forward_hooks)
    return layer.update.components > 0 or layer.update.m is not None or observed


def _factors(layer: AdaptedLinear, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Return s · diag(e) · A, rank x in, and B, out x rank."""
    A, B, scale = layer.update.scaled_factors()
    A = A if scale == 1.0 else A * scale
    return A.to(dtype or A.dtype), B.to(dtype or B.dtype)


def padded_rows(layers: Sequence[Sequence[Tensor | None]]) -> list[Tensor]:
    """Stack matrices of different heights, layers of equal width at once.

    Args:
        layers: For each layer, one matrix per lane, rank x width, or None for rank 0; at least one is not None.

    Returns:
        One tensor per layer: lanes x largest rank x width.
    """
    by_width: dict[int, list[int]] = {}
    for i, lanes in enumerate(layers):
        by_width.setdefault(_like(lanes).shape[1], []).append(i)
    stacked: dict[int, Tensor] = {}
    for width, members in by_width.items():
        like = _like(layers[members[0]])
        tallest = {i: max(len(matrix) for matrix in layers[i] if matrix is not None) for i in members}
        zeros = like.new_zeros(max(tallest.values()), width)
        pieces = []
        for i in members:
            for matrix in layers[i]:
                height = 0 if matrix is None else len(matrix)
                pieces += ([] if matrix is None else [matrix]) + (
                    [zeros[height : tallest[i]]] if height < tallest[i] else []
                )
        sizes = [len(layers[i]) * tallest[i] for i in members]
        for i, part in zip(members, torch.cat(pieces).split(sizes), strict=True):
            stacked[i] = part.view(len(layers[i]), tallest[i], width)
    return [stacked[i] for i in range(len(layers))]


def padded_columns(layers: Sequence[Sequence[Tensor | None]]) -> list[Tensor]:
    """Stack matrices of different widths, all layers at once.

    The matrices are copied as they lie in memory, and then spread, so that their gradients lie like them, too.

    Args:
        layers: For each layer, one matrix per lane, out x rank, or None for rank 0; at least one is not None.

    Returns:
        One tensor per layer: lanes x out x largest rank.
    """
    if not layers:
        return []
    ranks: Ranks = tuple(
        (_like(lanes).shape[0], tuple(0 if matrix is None else matrix.shape[1] for matrix in lanes)) for lanes in layers
    )
    flat = torch.cat([matrix.reshape(-1) for lanes in layers for matrix in lanes if matrix is not None])
    if any(len(set(of_lanes)) > 1 for _, of_lanes in ranks):
        flat = _Spread.apply(flat, *_positions(ranks, flat.device))
    shapes = [(len(of_lanes), out, max(of_lanes)) for out, of_lanes in ranks]
    parts = flat.split([lanes * out * rank for lanes, out, rank in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _like(lanes: Sequence[Tensor | None]) -> Tensor:
    return next(matrix for matrix in lanes if matrix is not None)


class _Spread(torch.autograd.Function):
    """Copies values to their positions among zeros."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, source: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(target)
        return torch.cat([flat, flat.new_zeros(1)]).index_select(0, source)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (target,) = ctx.saved_tensors
        return gradient.index_select(0, target), None, None


@lru_cache(maxsize=1)  # they may need gigabytes of the GPU's memory
def _positions(ranks: Ranks, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices for `_Spread`, cached while ranks do not change.

    Args:
        ranks: Output features and ranks.
        device: Device of the result.

    Returns:
        For each position the index of its value, or the number of values where there is a zero; for each value its
        position.
    """
    total = sum(out * sum(of_lanes) for out, of_lanes in ranks)
    kind = np.int32 if total < 2**31 - 1 else np.int64
    sources, read = [], 0
    for out, of_lanes in ranks:
        for rank in of_lanes:
            source = np.full((out, max(of_lanes)), total, dtype=kind)
            source[:, :rank] = np.arange(read, read + out * rank, dtype=kind).reshape(out, rank)
            read += out * rank
            sources.append(source.ravel())
    source = np.concatenate(sources)
    target = np.flatnonzero(source < total).astype(kind)
    return torch.from_numpy(source).to(device), torch.from_numpy(target).to(device)
