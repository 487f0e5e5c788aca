"""Chooses one of the sizes to which an adapter can be cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autorank.errors import AutorankError
from autorank.shrinking.cutting import ShrinkableAdapter, Size
from autorank.shrinking.scoring import ScoredAdapter
from autorank.trials.front import mark_knee
from autorank.trials.point import Point
from autorank.trials.selection import pick


def choose(
    adapter: ShrinkableAdapter, sizes: Sequence[Size], max_params: int | None = None, min_score: float | None = None,
    max_score_drop: float | None = None, energy: float | None = None,
) -> Size | None:  # fmt: skip
    """Choose a size.

    Args:
        adapter: The adapter.
        sizes: Its sizes, the whole adapter last.
        max_params: The best size with at most `max_params` parameters, of `sizes` and the largest such size, which is
            scored for it; without scores the largest.
        min_score: The smallest size with at least this score.
        max_score_drop: The smallest size that loses at most this much of the whole adapter's score.
        energy: The smallest size with this share of the energy.

    Returns:
        The size; without a condition the knee of the front, or None if nothing is scored.

    Raises:
        AutorankError: No size meets the condition, or has a finite score.
    """
    if energy is not None:
        size = adapter.at_energy(energy)
        return adapter.score_size(size) if isinstance(adapter, ScoredAdapter) else size
    full_size = sizes[-1]
    if full_size.score is None:
        return None if max_params is None else adapter.at_params(max_params)
    if max_score_drop is not None:
        min_score = full_size.score - max_score_drop
    if max_params is not None and max_params < full_size.adapter_params and isinstance(adapter, ScoredAdapter):
        sizes = [adapter.score_size(adapter.at_params(max_params)), *sizes]
    front = front_of(sizes)
    if not front:
        raise AutorankError("No size has a finite score. Check the adapter and the metric, or use --energy.")
    point = pick(front, max_params=max_params, min_score=min_score)
    return next(size for size in sizes if size.adapter_params == point.adapter_params)


def front_of(sizes: Sequence[Size]) -> list[Point]:
    """The scored sizes that no other dominates, as points, the knee marked.

    Args:
        sizes: Scored sizes of one adapter.

    Returns:
        The points in ascending order of parameters.
    """
    points = [
        Point(0, 0, size.adapter_params, size.score, {}, size.adapter_params, size.metrics or {})
        for size in sizes
        if size.score is not None and math.isfinite(size.score)
    ]
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.adapter_params, -point.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return mark_knee(best)


def including(sizes: Sequence[Size], chosen: Size | None) -> list[Size]:
    """The sizes in ascending order of parameters, with the chosen one in place of one with as many parameters."""
    by_params = {size.adapter_params: size for size in sizes}
    if chosen is not None:
        by_params[chosen.adapter_params] = chosen
    return [by_params[params] for params in sorted(by_params)]


def as_dict(size: Size) -> dict[str, Any]:
    """A size as plain values, ranks instead of components."""
    values: dict[str, Any] = {"adapter_params": size.adapter_params, "energy": size.energy}
    if size.score is not None:
        values |= {"score": size.score, "metrics": size.metrics}
    if size.component_masks is not None:
        values["ranks"] = {name: mask.bit_count() for name, mask in size.component_masks.items()}
    return values
