"""Snapshots of a search and an incrementally updated front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import le, lt
from pathlib import Path
from typing import Any

from autorank.spec import ObjectivesSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.front import NO_LIMITS, hypervolume, mark_knee, minimized_objectives
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.record import TrialRecord

ConfirmationKey = tuple[int, int, int, int]
"""Trial, step, parameters and seed."""

Confirmations = Mapping[ConfirmationKey, Mapping[str, Any]]
"""Key -> the result as `Journal.confirm` stores it."""


@dataclass(frozen=True)
class Snapshot:
    """State of a search at one moment.

    Attributes:
        points, baseline: The fronts of the methods and of the baseline, knees marked.
        confirmed: Trial, step, parameters and seed of a training with a new seed -> its result, or why it `failed`.
        requested: Number of trials requested.
        objectives: Limits and third objective of the search.
        reference: The hypervolume's reference point, (adapter parameters, score).
        folder: Directory of the search; None without one.
    """

    trials: list[TrialRecord]
    points: list[Point]
    baseline: list[Point]
    confirmed: Confirmations = field(default_factory=dict)
    requested: int = 0
    objectives: ObjectivesSpec = NO_LIMITS
    reference: tuple[float, float] = (1.0, 0.0)
    folder: Path | None = field(default=None, compare=False)

    @property
    def third_objective(self) -> str | None:
        """The search's third objective."""
        return self.objectives.third_objective

    @property
    def hypervolume(self) -> float:
        """The front's hypervolume."""
        return hypervolume(self.points, self.reference)

    @property
    def baseline_hypervolume(self) -> float:
        """The hypervolume of the baseline's front."""
        return hypervolume(self.baseline, self.reference)


class IncrementalFront:
    """The fronts of a search's trials. Adding an evaluation takes time linear in the size of the front.

    If objectives are equal, the point with the lowest `precedence` is kept.
    """

    def __init__(self, objectives: ObjectivesSpec, trials: Iterable[TrialRecord] = ()) -> None:
        self._objectives = objectives
        self._fronts: dict[bool, list[Point]] = {False: [], True: []}
        for trial in trials:
            for evaluation in trial.evaluations:
                self.add(trial, evaluation)

    def add(self, trial: TrialRecord, evaluation: Evaluation) -> None:
        """Add an evaluation of `trial` and its slices."""
        for point in points_of(trial, evaluation):
            if admitted(point, self._objectives):
                self._fronts[trial.baseline] = self._with(self._fronts[trial.baseline], point)

    def _with(self, front: list[Point], new: Point) -> list[Point]:
        """The front after a further point."""
        third_objective = self._objectives.third_objective
        objectives, kept = minimized_objectives(new, third_objective), []
        for old in front:
            old_objectives = minimized_objectives(old, third_objective)
            if old_objectives == objectives and old.precedence <= new.precedence:
                return front
            if old_objectives != objectives and all(map(le, old_objectives, objectives)):
                return front
            if any(map(lt, old_objectives, objectives)):
                kept.append(old)
        return sorted([*kept, new], key=lambda p: (p.adapter_params, p.score))

    @property
    def points(self) -> list[Point]:
        """The methods' front, in ascending order of parameters, with the knee marked."""
        return mark_knee(self._fronts[False])

    @property
    def baseline(self) -> list[Point]:
        """The baseline's front."""
        return mark_knee(self._fronts[True])
