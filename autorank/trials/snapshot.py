"""Snapshots of a search and an incrementally updated front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autorank.spec import ObjectivesSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.front import NO_LIMITS, costs, mark_knee
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.record import TrialRecord

Confirmations = Mapping[tuple[int, int, int, int], Mapping[str, Any]]
"""(trial, step, parameters, seed) -> the result as `Journal.confirm` stores it."""


@dataclass(frozen=True)
class Snapshot:
    """State of a search at one moment.

    Attributes:
        points, baseline: The fronts of the methods and of the baseline, knees marked.
        confirmed: See `trials.confirmation_stats`.
        requested: Number of trials requested.
        objectives: Limits and third objective of the search.
        reference: The hypervolume's reference point (parameters, score); None without a search.
        folder: Directory of the search; None without one.
    """

    trials: list[TrialRecord]
    points: list[Point]
    baseline: list[Point]
    confirmed: Confirmations = field(default_factory=dict)
    requested: int = 0
    objectives: ObjectivesSpec = NO_LIMITS
    reference: tuple[float, float] | None = None
    folder: Path | None = field(default=None, compare=False)

    @property
    def third(self) -> str | None:
        """The search's third objective."""
        return self.objectives.third


class IncrementalFront:
    """The fronts of a search's trials. Adding an evaluation takes time linear in the size of the front.

    Of points with equal objectives, the one with the lowest `precedence` is kept.
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
        third = self._objectives.third
        new_costs, kept = costs(new, third), []
        for old in front:
            old_costs = costs(old, third)
            first = old.precedence <= new.precedence
            if all(a <= b for a, b in zip(old_costs, new_costs, strict=True)) and (old_costs != new_costs or first):
                return front
            if any(a < b for a, b in zip(old_costs, new_costs, strict=True)):
                kept.append(old)
        return sorted([*kept, new], key=lambda p: (p.adapter_params, p.score))

    @property
    def points(self) -> list[Point]:
        """The methods' front, by rising parameters, knee marked."""
        return mark_knee(self._fronts[False])

    @property
    def baseline(self) -> list[Point]:
        """The baseline's front."""
        return mark_knee(self._fronts[True])
