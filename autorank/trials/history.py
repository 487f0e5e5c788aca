"""The front and its hypervolume after each finished trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from autorank.spec import ObjectivesSpec
from autorank.trials.front import NO_LIMITS, candidates, hypervolume, non_dominated
from autorank.trials.point import Point
from autorank.trials.record import TrialRecord, ended_trials


class HypervolumeStep(NamedTuple):
    """State of a search after a finished trial."""

    at: float  # Unix time
    points: list[Point]  # the front, knee not marked
    hypervolume: float


class History:
    """The front and its hypervolume after each finished trial, in the order in which the trials ended."""

    def __init__(self, reference: tuple[float, float], objectives: ObjectivesSpec = NO_LIMITS) -> None:
        self.steps: list[HypervolumeStep] = []
        self._reference, self._objectives = reference, objectives
        self._known: set[int] = set()

    def update(self, trials: Sequence[TrialRecord]) -> list[HypervolumeStep]:
        """Add the trials that ended since the last call and return all steps."""
        new = [trial for trial in ended_trials(trials) if trial.number not in self._known]
        for trial in sorted(new, key=lambda t: (t.ended, t.number)):
            self._known.add(trial.number)
            points = self.steps[-1].points if self.steps else []
            if not trial.baseline:
                points = non_dominated(
                    [*points, *candidates([trial], self._objectives)], self._objectives.third_objective
                )
            self.steps.append(HypervolumeStep(trial.ended, points, hypervolume(points, self._reference)))
        return self.steps
