"""Decides which trials stop early: those over a limit that they cannot meet, and those beaten at a rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from autorank.searching.early_stopping.mo_asha import Halving, Reached
from autorank.searching.space.param_bounds import Bounds, sliced
from autorank.spec import SearchSpec
from autorank.training.evaluation import best
from autorank.trials.front import candidates, non_dominated
from autorank.trials.point import Point
from autorank.trials.record import TrialRecord

BEATEN = "beaten"


class StoppingPolicy:
    """The early stopping of a search.

    Args:
        spec: The search.
        bounds: Bounds of adapter parameters.
        evaluations: Evaluations of a complete run.
    """

    def __init__(self, spec: SearchSpec, bounds: Bounds, evaluations: int) -> None:
        self._spec, self._objectives, self._bounds = spec, spec.objectives, bounds
        self._halving = Halving(spec.halving, evaluations) if spec.halving else None

    def reason(self, trial: TrialRecord, front: Sequence[Point]) -> str | None:
        """Return the reason why a trial stops after its last evaluation; None: it continues.

        Rungs compare only parameters and score. So with a third objective, a trial whose last evaluation is on the
        current front continues even if it is beaten at a rung.
        """
        if self._halving is None:
            return None
        if (limit := self._exceeded(trial)) is not None:
            return limit
        count = len(trial.evaluations)
        continues = not self._record(trial) or self._halving.continues(trial.method, trial.number, count)
        return None if continues or self._on_front(trial, front) else BEATEN

    def replay(self, trial: TrialRecord) -> None:
        """Add a trial of an earlier session to the rungs that it reached."""
        for count in range(1, len(trial.evaluations) + 1):
            earlier = replace(trial, evaluations=trial.evaluations[:count])
            if self._halving is not None and self._exceeded(earlier) is None:
                self._record(earlier)

    def target(self, trial: TrialRecord) -> float:
        """Return the final parameters of a trial: exact if the settings determine them, otherwise the current ones.

        The current ones are final in methods that allocate before training.
        """
        low, high = self._bounds(trial.method, trial.settings)
        return float(min(max(trial.evaluations[-1].adapter_params, low), high)) if trial.evaluations else float(high)

    def _record(self, trial: TrialRecord) -> bool:
        """Add a trial to the rung that it has reached; return whether there is one."""
        assert self._halving is not None
        count, top = len(trial.evaluations), best(trial.evaluations)
        if top is None or not self._halving.is_rung(count):
            return False
        self._halving.record(trial.method, trial.number, count, self._curve(trial, top.score))
        return True

    def _curve(self, trial: TrialRecord, score: float) -> list[Reached]:
        """The final adapter and the slices so far; only those within `max_params` if there are any."""
        slices = [slice_ for evaluation in trial.evaluations for slice_ in evaluation.slices if isfinite(slice_.score)]
        curve = [
            Reached(self.target(trial), score),
            *(Reached(slice_.adapter_params, slice_.score) for slice_ in slices),
        ]
        max_params = self._objectives.max_params
        return [point for point in curve if max_params is None or point.params <= max_params] or curve

    def _on_front(self, trial: TrialRecord, front: Sequence[Point]) -> bool:
        third_objective = self._objectives.third_objective
        if third_objective is None:
            return False
        latest_points = candidates([replace(trial, evaluations=trial.evaluations[-1:])], self._objectives)
        return any(point in latest_points for point in non_dominated([*front, *latest_points], third_objective))

    def _exceeded(self, trial: TrialRecord) -> str | None:
        """The limit that a trial exceeds now and at its end, or None.

        Slices of a too large adapter may be small enough.
        """
        latest, limits = trial.evaluations[-1], self._objectives
        if limits.max_memory is not None and latest.peak_memory > limits.max_memory:
            return f"over --max-memory with {latest.peak_memory:,} bytes"
        max_params = None if sliced(self._spec, trial.method) else limits.max_params
        if max_params is not None and min(latest.adapter_params, self.target(trial)) > max_params:
            return f"over --max-params with {latest.adapter_params:,}"
        return None
