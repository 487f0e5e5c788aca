"""The limits of a search (`--max-params`, `--min-score`, `--max-memory`): which points may be on its front."""

from __future__ import annotations

import math

from autorank.spec import ObjectivesSpec
from autorank.trials.point import Point


def admitted(point: Point, objectives: ObjectivesSpec) -> bool:
    """Whether a point may be on a front: its score is finite and it meets all limits."""
    return math.isfinite(point.score) and all(excess <= 0 for excess in excesses(point, objectives).values())


def excesses(point: Point, objectives: ObjectivesSpec) -> dict[str, float]:
    """Return by how much a point exceeds each limit; at most 0 if it meets the limit.

    Args:
        point: The point.
        objectives: The limits.

    Returns:
        Name of the limit -> excess: a fraction of the limit for `max_params` and `max_memory`, a difference of
        scores for `min_score`.
    """
    excess = {}
    if (limit := objectives.max_params) is not None:
        excess["max_params"] = point.adapter_params / limit - 1
    if (min_score := objectives.min_score) is not None:
        excess["min_score"] = min_score - point.score
    if (limit := objectives.max_memory) is not None:
        excess["max_memory"] = point.memory / limit - 1
    return excess
