"""Writes the catalogue of first settings (`search_spaces/catalogue.yaml`) from the searches of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autorank import tasks
from autorank.searching.space.param_bounds import ParamBounds, run_length
from autorank.trials.record import TrialRecord
from benchmarks.study.results import Result
from benchmarks.study.settings import CONTROL

CLOSE = 0.9  # of the method's best score: settings with other targets are kept from there on
HEAD = """\
# The best settings of each method in the searches of docs/results.md, for each choice of adapted layers.
# Written by `python -m benchmarks.study --catalogue search_spaces/catalogue.yaml`.
"""


def write(file: Path, searches: list[Result]) -> None:
    """Add a task to the catalogue, or replace what it has of this task and model.

    Args:
        file: The catalogue, which may not exist yet.
        searches: Complete searches of one task.
    """
    new_row = _row([search for search in searches if search.method != CONTROL])
    rows = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = [row for row in rows if (row["task"], row["model"]) != (new_row["task"], new_row["model"])]
    text = yaml.dump([*rows, new_row], sort_keys=False, width=120, default_flow_style=None)
    file.write_text(HEAD + text, encoding="utf-8")


def _row(searches: list[Result]) -> dict[str, Any]:
    """The searches of a task."""
    spec = searches[0].spec
    data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
    return {
        "task": spec.task.name,
        "model": Path(spec.model).name if spec.model else "the built-in model",
        "model_params": ParamBounds(spec.task, spec.model).model_params,
        "kind": data.task.kind.name,
        "seen": run_length(spec, data).steps * (spec.training.batch_size or data.task.batch_size),
        "best": {search.spec.methods[0].method: _best(search) for search in searches},
    }


def _best(search: Result) -> list[dict[str, Any]]:
    """The settings of the best complete trial for each choice of adapted layers, the best of all first."""
    best: dict[Any, TrialRecord] = {}
    complete = [trial for trial in search.snapshot.trials if trial.state == "complete" and trial.evaluations]
    for trial in sorted(complete, key=_score, reverse=True):
        best.setdefault(trial.settings.get("targets"), trial)
    trials = [trial for trial in best.values() if _score(trial) >= CLOSE * max(map(_score, complete))]
    names = search.spec.methods[0].space
    return [{name: _rounded(trial.settings[name]) for name in names} for trial in trials]


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _score(trial: TrialRecord) -> float:
    return max(evaluation.score for evaluation in trial.evaluations)
