"""Events for programs: one JSON object per line on stdout. docs/events.md lists the events and their fields."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autorank.display.base import Display
from autorank.display.formatting import new_confirmations
from autorank.reporting.front_csv_json import front_rows, json_value
from autorank.spec import SearchSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.record import TrialRecord, ended_trials
from autorank.trials.snapshot import Confirmations, Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome

POINT_FIELDS = ("trial", "step", "method", "adapter_params", "cut_from", "score", "knee")
SLICE_FIELDS = ("adapter_params", "score", "metrics")


class Events(Display):
    """Prints changes since the last update; only `start` and `front` describe the state at the beginning.

    Args:
        spec: The search.
        folder: Its directory.
    """

    def __init__(self, spec: SearchSpec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._steps: dict[int, int] | None = None  # trial -> step of its last printed evaluation
        self._ended: set[int] = set()
        self._confirmed: Confirmations = {}
        self._front: list[dict[str, Any]] = []

    @override
    def update(self, snapshot: Snapshot) -> None:
        if self._steps is None:
            self._start(snapshot)
        assert self._steps is not None
        for trial in snapshot.trials:
            if trial.number not in self._steps:
                self._steps[trial.number] = 0
                self._emit("trial_start", **_name(trial), settings=trial.settings)
            if trial.step > self._steps[trial.number]:
                for evaluation in trial.evaluations:
                    if evaluation.step > self._steps[trial.number]:
                        self._emit("evaluation", **_name(trial), **_values(evaluation))
                self._steps[trial.number] = trial.step
        self._emit_front(snapshot)
        for trial in snapshot.trials:
            if not trial.is_running and trial.number not in self._ended:
                self._ended.add(trial.number)
                ending = {"state": trial.state, "reason": trial.reason, "seconds": trial.seconds}
                self._emit("trial_end", **_name(trial), **ending, ended=len(self._ended), requested=snapshot.requested)
        for key, result in new_confirmations(self._confirmed, snapshot.confirmed):
            trial_number, step, params, seed = key
            scores = {name: result.get(name) for name in ("score", "failed")}
            self._emit("confirmation", trial=trial_number, step=step, adapter_params=params, seed=seed, **scores)
        self._confirmed = snapshot.confirmed

    @override
    def end(self, outcome: Outcome) -> None:
        snapshot = outcome.snapshot
        self._emit(
            "end", ending=outcome.ending, ended=len(self._ended), requested=snapshot.requested,
            unconfirmed=outcome.unconfirmed, tracked=outcome.tracked, hypervolume=snapshot.hypervolume,
            front=front_rows(snapshot),
        )  # fmt: skip

    def _start(self, snapshot: Snapshot) -> None:
        self._steps = {trial.number: trial.step for trial in snapshot.trials}
        self._ended = {trial.number for trial in ended_trials(snapshot.trials)}
        self._confirmed = snapshot.confirmed
        baseline = self._spec.baseline
        self._emit(
            "start", search=self._spec.name, folder=str(self._folder), task=self._spec.task.name,
            methods=[entry.method for entry in self._spec.methods], baseline=baseline.method if baseline else None,
            ended=len(self._ended), requested=snapshot.requested,
        )  # fmt: skip

    def _emit_front(self, snapshot: Snapshot) -> None:
        points = [{name: getattr(point, name) for name in POINT_FIELDS} for point in snapshot.points]
        if points != self._front:
            self._front = points
            self._emit("front", hypervolume=snapshot.hypervolume, points=points)

    def _emit(self, event: str, **values: Any) -> None:
        """Print one event at once. If the reader closes the pipe, the search continues."""
        line = json.dumps(
            json_value({"event": event, "time": time.time(), **values}), ensure_ascii=False, allow_nan=False
        )
        try:
            print(line, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _name(trial: TrialRecord) -> dict[str, Any]:
    return {"trial": trial.number, "method": trial.method, "baseline": trial.baseline}


def _values(evaluation: Evaluation) -> dict[str, Any]:
    """The fields of an evaluation and of its slices, without ranks: there may be hundreds of layers."""
    values = {name: value for name, value in evaluation.to_dict().items() if name != "ranks"}
    return values | {"slices": [{name: slice_[name] for name in SLICE_FIELDS} for slice_ in values["slices"]]}
