"""Chooses one point of a front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from autorank.errors import AutorankError, counted
from autorank.trials.front import mark_knee, non_dominated
from autorank.trials.point import Point, PointKey


def pick(
    points: Sequence[Point],
    *,
    trial: int | None = None,
    step: int | None = None,
    max_params: int | None = None,
    min_score: float | None = None,
    min_gain_probability: float | None = None,
    better: Mapping[PointKey, float] | None = None,
) -> Point:
    """Choose a point of a front, or of all `candidates`; without a condition its knee.

    Among the points that meet all conditions, `min_score` and `min_gain_probability` select the one with the fewest
    parameters; otherwise the best score wins. Ties are broken by the other quantity.

    Args:
        points: The points to choose from.
        trial: Only points of this trial: its adapters and their slices.
        step: Only points of this step.
        max_params: Only points with at most this many adapter parameters.
        min_score: Only points with at least this score.
        min_gain_probability: Only points that are better than the baseline with at least this probability.
        better: Key of a point -> that probability, for `min_gain_probability`.

    Returns:
        The point.

    Raises:
        AutorankError: No point meets the conditions; the message names those that exist.
    """
    if not points:
        raise AutorankError(
            "No point can be chosen: no evaluation of any trial has a finite score within the limits yet."
        )
    if trial is None and max_params is None and min_score is None and min_gain_probability is None:
        marked = points if any(p.knee for p in points) else mark_knee(non_dominated(points))
        return next(p for p in marked if p.knee)
    chosen = list(points)
    if trial is not None:
        trials = _listed(p.trial for p in chosen)
        message = f"Trial {trial} has no point that can be chosen. Trials with points: {trials}."
        chosen = _only(chosen, lambda p: p.trial == trial, message)
    if step is not None:
        steps = _listed(p.step for p in chosen)
        message = f"Trial {trial} has no point at step {step}. Available steps: {steps}."
        chosen = _only(chosen, lambda p: p.step == step, message)
    if max_params is not None:
        sizes = sorted({p.adapter_params for p in chosen})
        message = f"No point has at most {counted(max_params, 'parameter')}; the smallest has {sizes[0]:,}."
        message += f" Available sizes: {'; '.join(f'{size:,}' for size in sizes)}." if trial is not None else ""
        chosen = _only(chosen, lambda p: p.adapter_params <= max_params, message)
    if min_gain_probability is not None:
        chosen = _better_than_baseline(chosen, min_gain_probability, better or {})
    if min_score is not None:
        within = "" if max_params is None else f" with at most {counted(max_params, 'parameter')}"
        best = max(p.score for p in chosen)
        message = f"No point{within} scores at least {min_score:g}; the best score is {best:.4f}."
        chosen = _only(chosen, lambda p: p.score >= min_score, message)
    if min_score is not None or min_gain_probability is not None:
        return min(chosen, key=lambda p: (p.adapter_params, -p.score))
    return max(chosen, key=lambda p: (p.score, -p.adapter_params))


def _only(points: Sequence[Point], condition: Callable[[Point], bool], message: str) -> list[Point]:
    """The points that meet a condition; the message is the error if there are none."""
    chosen = [point for point in points if condition(point)]
    if not chosen:
        raise AutorankError(message)
    return chosen


def _listed(numbers: Iterable[int]) -> str:
    """The numbers in their order, each once."""
    return ", ".join(map(str, sorted(set(numbers))))


def _better_than_baseline(points: Sequence[Point], probability: float, better: Mapping[PointKey, float]) -> list[Point]:
    """The points that are better than the baseline with a probability."""
    probabilities = [better[point.key] for point in points if point.key in better]
    if not probabilities:
        raise AutorankError(
            "--min-gain-probability needs the predictions of a point and of plain LoRA with at most as many "
            "parameters. No point here has both: search with --baseline, or choose with --max-params or --min-score."
        )
    message = (
        f"No point is better than plain LoRA with a probability of at least {probability:g}; the highest is "
        f"{max(probabilities):.2f}. --confirm-seeds makes differences more certain."
    )
    return _only(points, lambda point: better.get(point.key, 0.0) >= probability, message)
