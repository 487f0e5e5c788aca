"""The Pareto front of adapter parameters (fewer is better) against score (higher is better)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autorank.spec import ObjectivesSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.record import TrialRecord

NO_LIMITS = ObjectivesSpec()  # parameters against score, without limits


def candidates(trials: Sequence[TrialRecord], objectives: ObjectivesSpec = NO_LIMITS) -> list[Point]:
    """Every adapter and slice with a finite score within the objectives' limits, by trial and step; the baseline's too.

    Evaluations of failed and stopped trials count too: they are valid, and their adapters are stored.
    """
    every = (point for trial in trials for evaluation in trial.evaluations for point in points_of(trial, evaluation))
    return [point for point in every if admitted(point, objectives)]


def front(trials: Sequence[TrialRecord], objectives: ObjectivesSpec = NO_LIMITS, baseline: bool = False) -> list[Point]:
    """The candidates that no other dominates, in ascending order of parameters, with the knee marked.

    If objectives are equal, the point with the lowest `precedence` is kept.

    Args:
        trials: All trials.
        objectives: Limits and the third objective.
        baseline: Use the baseline's trials only; otherwise all other trials.

    Returns:
        The points of the front.
    """
    selected = [trial for trial in trials if trial.baseline == baseline]
    return mark_knee(non_dominated(candidates(selected, objectives), objectives.third_objective))


def non_dominated(points: Sequence[Point], third_objective: str | None = None) -> list[Point]:
    """The points that no other dominates, in ascending order of parameters.

    If objectives are equal, the point with the lowest `precedence` is kept.
    """
    if not points:
        return []
    import moocore

    points = sorted(points, key=lambda point: point.precedence)
    plane = np.array([minimized_objectives(p, third_objective) for p in points])
    kept = moocore.is_nondominated(plane, keep_weakly=False)
    return sorted((p for p, keep in zip(points, kept, strict=True) if keep), key=lambda p: (p.adapter_params, p.score))


def size_curves(points: Sequence[Point], front: Sequence[Point]) -> list[list[Point]]:
    """The sizes of each evaluation that has slices and a point on the front.

    Args:
        points: All candidates.
        front: The points of one or more fronts.

    Returns:
        For each such evaluation, by trial and step, its points in ascending order of parameters.
    """
    curves: dict[tuple[int, int], list[Point]] = {(point.trial, point.step): [] for point in front}
    for point in points:
        if (point.trial, point.step) in curves:
            curves[point.trial, point.step].append(point)
    return [sorted(curves[key], key=lambda p: p.adapter_params) for key in sorted(curves) if len(curves[key]) > 1]


def third_objective_value(evaluation: Evaluation, third_objective: str) -> float:
    """An evaluation's third objective."""
    return float(getattr(evaluation, "peak_memory" if third_objective == "memory" else third_objective))


def minimized_objectives(point: Point, third_objective: str | None = None) -> tuple[float, ...]:
    """The minimized objectives: parameters, the negative score, and the third objective if set."""
    params, *rest = costs(point, third_objective)
    return (params, -point.score, *rest)


def costs(point: Point, third_objective: str | None = None) -> tuple[float, ...]:
    """The minimized objectives without the score: parameters, and the third objective if set."""
    return (float(point.adapter_params), *([] if third_objective is None else [float(getattr(point, third_objective))]))


def hypervolume(points: Sequence[Point], reference: tuple[float, float]) -> float:
    """Share of the box [0, reference params] x [reference score, 1] that the points dominate, in [0, 1].

    Axes are linear. Points outside the box are ignored. 1 would be a perfect score with no parameters.
    """
    params, score = reference
    if params <= 0 or score >= 1:
        raise ValueError(f"reference must have params > 0 and score < 1, but is {reference}")
    if not points:
        return 0.0
    import moocore

    plane = np.array([minimized_objectives(p) for p in points])
    area = moocore.hypervolume(plane, ref=[params, -score])
    return float(area) / (params * (1 - score))


def gain(point: Point, baseline: Sequence[Point]) -> float | None:
    """Score above the baseline's best with no more parameters; None if the baseline has none that small."""
    scores = [other.score for other in baseline if other.adapter_params <= point.adapter_params]
    return point.score - max(scores) if scores else None


def knee(points: Sequence[Point]) -> Point | None:
    """Return the point farthest above the chord between the ends of the front (Kneedle, Satopaa et al. 2011).

    log10(params) and score are scaled to [0, 1] first, so the height above the chord is score - params. If heights are
    equal, the point with fewer parameters is chosen. If no point is above the chord, as with one or two points, it is
    the point with the best score, because the smallest adapter is often hardly trained.

    Args:
        points: The front, in ascending order of parameters.

    Returns:
        The point; None if the front is empty.
    """
    if not points:
        return None
    params = _unit([math.log10(max(point.adapter_params, 1)) for point in points])
    score = _unit([point.score for point in points])
    height = np.round(score - params, 12)  # equal heights must tie in spite of rounding
    return points[int(np.argmax(height))] if height.max() > 0 else points[-1]


def mark_knee(points: Sequence[Point]) -> list[Point]:
    """The points of a front, with `knee` set on its knee only."""
    chosen = knee(points)
    return [replace(point, knee=point is chosen) for point in points]


def _unit(values: Sequence[float]) -> np.ndarray:
    """Scaled to [0, 1]; all 0 where they do not differ."""
    array = np.asarray(values, dtype=np.float64)
    span = np.ptp(array)
    return (array - array.min()) / span if span else np.zeros_like(array)
