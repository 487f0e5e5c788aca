"""Evaluations and trials as a journal stores them: a rank map as its ranks alone, equal ones held once in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autorank.training.evaluation import Evaluation
from autorank.trials.record import State, TrialRecord

STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
EVALUATION = "evaluation:"  # + step
GENERATION = ":generation"  # ends the keys under which Optuna's genetic samplers note a trial's


class Rows:
    """To and from plain values. A rank map of 72 modules would be 4 kB an evaluation: `layers` holds their names once.

    Args:
        layers: lists of module names, as they were stored.
    """

    def __init__(self, layers: list[list[str]]) -> None:
        self._layers = [tuple(names) for names in layers]
        self._maps: dict[tuple[int, tuple[int, ...]], dict[str, int]] = {}

    def write(self, evaluation: Evaluation) -> tuple[dict[str, Any], list[list[str]] | None]:
        """An evaluation's row; and all lists of names, where it needs one more of them, to be stored before it."""
        names = tuple(evaluation.ranks)
        new = names not in self._layers
        layers = [*self._layers, names] if new else self._layers
        row = evaluation.to_dict() | {"layers": layers.index(names), "ranks": list(evaluation.ranks.values())}
        for piece in row["slices"]:
            piece["kept"] = [piece["kept"][name] for name in names]
        if not evaluation.slices:
            del row["slices"]
        return row, [list(each) for each in layers] if new else None

    def shared(self, evaluation: Evaluation) -> Evaluation:
        """The same evaluation, once it is stored, with a rank map that all equal ones share."""
        names = tuple(evaluation.ranks)
        if names not in self._layers:
            self._layers.append(names)
        return replace(evaluation, ranks=self._map(self._layers.index(names), evaluation.ranks.values()))

    def read(self, trial: FrozenTrial) -> TrialRecord:
        """A trial from its attributes."""
        attributes = trial.user_attrs
        rows = [value for key, value in attributes.items() if key.startswith(EVALUATION)]
        evaluations = tuple(sorted(map(self._evaluation, rows), key=lambda evaluation: evaluation.step))
        state = STATES[trial.state]
        told = attributes.get("told") or trial.values
        return TrialRecord(
            number=trial.number,
            method=attributes["method"],
            config=attributes["config"],
            state=state,
            evaluations=evaluations,
            reason=attributes.get("reason") if state in ("failed", "pruned") else None,
            seconds=evaluations[-1].seconds if evaluations else 0.0,
            started=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
            ended=trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
            control=attributes.get("control", False),
            drawn=trial.params,
            told=None if told is None or state == "failed" else tuple(told),
            stop=max(rows, key=lambda row: row["step"]).get("stop") if rows else None,
            generation={key: value for key, value in trial.system_attrs.items() if key.endswith(GENERATION)},
            retries=attributes.get("retries", 0),
            halved=attributes.get("halved", False),
            finished=any("last" in row for row in rows),
        )

    def _evaluation(self, row: dict[str, Any]) -> Evaluation:
        values = dict(row)
        layers = values.pop("layers")
        for note in ("last", "stop"):
            values.pop(note, None)
        slices = [
            piece | {"kept": dict(zip(self._layers[layers], piece["kept"], strict=True))}
            for piece in values.get("slices", ())
        ]
        return Evaluation.from_dict(values | {"ranks": self._map(layers, values["ranks"]), "slices": slices})

    def _map(self, layers: int, ranks: Any) -> dict[str, int]:
        key = layers, tuple(ranks)
        if key not in self._maps:
            self._maps[key] = dict(zip(self._layers[layers], key[1], strict=True))
        return self._maps[key]
