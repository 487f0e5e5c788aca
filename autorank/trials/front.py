"""The Pareto front of adapter parameters (fewer is better) against score (higher is better)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from autorank.errors import AutorankError, counted
from autorank.spec import ObjectivesSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.record import TrialRecord

EVERYTHING = ObjectivesSpec()  # parameters against score, without limits


@dataclass(frozen=True)
class Point:
    """An evaluation as a candidate for the front."""

    trial: int
    step: int
    adapter_params: int
    score: float
    config: dict[str, Any]  # the trial's settings
    nonzero_params: int
    metrics: dict[str, float]
    method: str = ""
    seconds: float = 0.0
    memory: int = 0  # bytes on the GPU, at the peak
    knee: bool = False


class Progress(NamedTuple):
    """A search after one more finished trial."""

    at: float  # Unix time
    points: list[Point]  # the front, knee not marked
    hypervolume: float


def candidates(trials: Sequence[TrialRecord], objectives: ObjectivesSpec = EVERYTHING) -> list[Point]:
    """Every evaluation with a finite score within the objectives' limits, by trial and step; the control's too.

    Those of failed and stopped trials too: what was measured before a trial ran out of memory or was cut off
    is as true as any other measurement, and its adapter is there.
    """
    return [point(trial, e) for trial in trials for e in trial.evaluations if admitted(e, objectives)]


def point(trial: TrialRecord, evaluation: Evaluation) -> Point:
    """An evaluation of a trial as a candidate."""
    return Point(
        trial.number, evaluation.step, evaluation.adapter_params, evaluation.score, trial.config,
        evaluation.nonzero_params, evaluation.metrics, trial.method, evaluation.seconds, evaluation.peak_memory,
    )  # fmt: skip


def admitted(evaluation: Evaluation, objectives: ObjectivesSpec) -> bool:
    """Whether an evaluation may be on a front: its score is finite, and it keeps within the limits."""
    return math.isfinite(evaluation.score) and all(excess <= 0 for excess in excesses(evaluation, objectives).values())


def excesses(evaluation: Evaluation, objectives: ObjectivesSpec) -> dict[str, float]:
    """Return by how much an evaluation exceeds each limit; 0 or less if it keeps it.

    Args:
        evaluation: the evaluation.
        objectives: the limits.

    Returns:
        Name of the limit -> excess: a fraction of the limit for `max_params` and `max_memory`, a difference of
        scores for `min_score`.
    """
    found = {}
    if (most := objectives.max_params) is not None:
        found["max_params"] = evaluation.adapter_params / most - 1
    if (least := objectives.min_score) is not None:
        found["min_score"] = least - evaluation.score
    if (most := objectives.max_memory) is not None:
        found["max_memory"] = evaluation.peak_memory / most - 1
    return found


def front(trials: Sequence[TrialRecord], objectives: ObjectivesSpec = EVERYTHING, control: bool = False) -> list[Point]:
    """The candidates that no other dominates, by rising parameters, with the knee marked.

    With `control` those of the control's trials alone, else those of all others. Of points with equal parameters and
    score the earliest stays: the lowest trial number, then step.
    """
    own = [trial for trial in trials if trial.control == control]
    return mark_knee(non_dominated(candidates(own, objectives), objectives.third))


def non_dominated(points: Sequence[Point], third: str | None = None) -> list[Point]:
    """The points that no other dominates, by rising parameters; of equal ones, the first that was given."""
    if not points:
        return []
    import moocore

    plane = np.array([costs(p, third) for p in points])
    kept = moocore.is_nondominated(plane, keep_weakly=False)
    return sorted((p for p, keep in zip(points, kept, strict=True) if keep), key=lambda p: (p.adapter_params, p.score))


def third_of(evaluation: Evaluation, third: str) -> float:
    """An evaluation's third objective."""
    return float(getattr(evaluation, "peak_memory" if third == "memory" else third))


def costs(point: Point, third: str | None = None) -> tuple[float, ...]:
    """What is to be small: parameters, the negative score, and the third objective if there is one."""
    two = (float(point.adapter_params), -point.score)
    return two if third is None else (*two, float(getattr(point, third)))


def hypervolume(points: Sequence[Point], reference: tuple[float, float]) -> float:
    """Share of the box [0, reference params] x [reference score, 1] that the points dominate, in [0, 1].

    Linear axes. Points outside the box count for nothing. 1 would be a perfect score for no parameters.
    """
    params, score = reference
    if params <= 0 or score >= 1:
        raise ValueError(f"reference must have params > 0 and score < 1, but is {reference}")
    if not points:
        return 0.0
    import moocore

    plane = np.array([costs(p) for p in points])
    area = moocore.hypervolume(plane, ref=[params, -score])
    return float(area) / (params * (1 - score))


def gain(point: Point, control: Sequence[Point]) -> float | None:
    """Score above the control's best with no more parameters; None if the control has none that small."""
    scores = [other.score for other in control if other.adapter_params <= point.adapter_params]
    return point.score - max(scores) if scores else None


class History:
    """How a front grew: itself and its hypervolume after each finished trial, in the order in which they ended."""

    def __init__(self, reference: tuple[float, float], objectives: ObjectivesSpec = EVERYTHING) -> None:
        self.steps: list[Progress] = []
        self._reference, self._objectives = reference, objectives
        self._known: set[int] = set()

    def update(self, trials: Sequence[TrialRecord]) -> list[Progress]:
        """Take in the trials that have ended since the last time; returns all steps."""
        new = [trial for trial in trials if trial.state != "running" and trial.number not in self._known]
        for trial in sorted(new, key=lambda t: (t.ended, t.number)):
            self._known.add(trial.number)
            points = self.steps[-1].points if self.steps else []
            if not trial.control:
                points = non_dominated([*points, *candidates([trial], self._objectives)], self._objectives.third)
            self.steps.append(Progress(trial.ended, points, hypervolume(points, self._reference)))
        return self.steps


def knee(points: Sequence[Point]) -> Point | None:
    """Where the front bends most: the point farthest above the chord between its ends, by rising parameters.

    log10(params) and score are scaled to [0, 1] first, so the chord is the diagonal and the height above it
    is score - params (as in Kneedle, Satopaa et al. 2011). Ties go to fewer parameters. A front of one or two
    points, or one that nowhere rises above its chord, has no bend: its score still climbs at the end, and
    that end, the best score, is taken (the other end is often a model that was hardly trained).
    """
    if not points:
        return None
    params = _unit([math.log10(max(point.adapter_params, 1)) for point in points])
    score = _unit([point.score for point in points])
    height = np.round(score - params, 12)  # equal heights must tie in spite of rounding
    return points[int(np.argmax(height))] if height.max() > 0 else points[-1]


def mark_knee(points: Sequence[Point]) -> list[Point]:
    """The points of a front with `knee` set on its knee and nowhere else."""
    chosen = knee(points)
    return [replace(point, knee=point is chosen) for point in points]


def pick(
    points: Sequence[Point],
    *,
    trial: int | None = None,
    step: int | None = None,
    max_params: int | None = None,
    min_score: float | None = None,
) -> Point:
    """One point of a front, or of all `candidates`. With nothing asked it is the knee: the one marked so, if one is.

    Of the points that satisfy all that is asked: with `min_score` the one with the fewest parameters, else
    the one with the best score; ties go to the other axis.
    Raises AutorankError, naming what there is, if no point satisfies.
    """
    if not points:
        raise AutorankError(
            "There is no point to choose: no evaluation of any trial has a finite score within the limits yet."
        )
    if trial is None and max_params is None and min_score is None:
        marked = points if any(p.knee for p in points) else mark_knee(non_dominated(points))
        return next(p for p in marked if p.knee)
    chosen = list(points)
    if trial is not None:
        chosen = [p for p in chosen if p.trial == trial]
        if not chosen:
            there = ", ".join(str(number) for number in sorted({p.trial for p in points}))
            raise AutorankError(f"Trial {trial} has no point here. The trials that have one: {there}.")
    if step is not None:
        there = ", ".join(str(p.step) for p in chosen)
        chosen = [p for p in chosen if p.step == step]
        if not chosen:
            raise AutorankError(f"Trial {trial} has no point at step {step}. Available steps: {there}.")
    if max_params is not None:
        smallest = min(p.adapter_params for p in chosen)
        chosen = [p for p in chosen if p.adapter_params <= max_params]
        if not chosen:
            raise AutorankError(
                f"No point has at most {counted(max_params, 'parameter')}; the smallest has {smallest:,}."
            )
    if min_score is not None:
        best = max(p.score for p in chosen)
        chosen = [p for p in chosen if p.score >= min_score]
        if not chosen:
            within = (
                f" with at most {max_params:,} parameter{'s' * (max_params != 1)}" if max_params is not None else ""
            )
            raise AutorankError(f"No point{within} scores at least {min_score:g}; the best score is {best:.4f}.")
        return min(chosen, key=lambda p: (p.adapter_params, -p.score))
    return max(chosen, key=lambda p: (p.score, -p.adapter_params))


def _unit(values: Sequence[float]) -> np.ndarray:
    """Scaled to [0, 1]; all 0 where they do not differ."""
    array = np.asarray(values, dtype=np.float64)
    span = np.ptp(array)
    return (array - array.min()) / span if span else np.zeros_like(array)
