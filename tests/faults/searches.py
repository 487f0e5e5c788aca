"""Searches to be disturbed: the command line in a process of its own, and what is left of it when it has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorank.trials.journal.journal import Journal
from autorank.trials.statistics.predictions import read
from tests import tiny

SPACE = """
rank: {type: int, low: 1, high: 8, log: true}
learning_rate: {type: float, low: 1.0e-3, high: 3.0e-2, log: true}
"""
TRIALS = 12


def make_place(folder: Path) -> Path:
    """A user's folder: a model, data, a space."""
    folder.mkdir(parents=True)
    tiny.model("bert", folder / "model")
    tiny.pairs_file(folder / "pairs.jsonl", 200)
    (folder / "space.yaml").write_text(SPACE)
    return folder


def start(
    place: Path, name: str, *more: str, trials: int = TRIALS, start_new_session: bool = False, terminal: bool = False
) -> subprocess.Popen[str]:
    """`autorank search`: one trial after another, so that nothing depends on which of two is quicker; in the end each
    point of the front is trained again. With `terminal` it is the child of a process that is its terminal."""
    own = ["--data", "pairs.jsonl", "--text", "left,right", "--label", "label", "--model", "model"]
    command = [
        sys.executable, "-m", "autorank.cli.app", "search", "--method", "lora", *own, "--space", "space.yaml",
        "--epochs", "4", "--name", name, "--trials", str(trials), "--concurrency", "1", "--confirm-seeds", "1", *more,
    ]  # fmt: skip
    if terminal:
        command = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *command]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"AUTORANK_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=place, env=environment, text=True, stderr=subprocess.STDOUT,
        stdout=subprocess.DEVNULL if terminal else subprocess.PIPE,
        start_new_session=start_new_session, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup
    )  # fmt: skip


def finish(place: Path, name: str, trials: int = TRIALS) -> str:
    """The same, to its end. Returns what it printed."""
    process = start(place, name, trials=trials)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


def essence(place: Path, name: str) -> dict[str, Any]:
    """All that a search found, without times, names and ids: trials, front, predictions, and its runs in MLflow."""
    snapshot = Journal.open(place / "runs" / name).snapshot()
    trials = [
        replace(
            trial, started=0.0, ended=0.0, seconds=0.0, retries=0,
            evaluations=tuple(replace(evaluation, seconds=0.0) for evaluation in trial.evaluations),
        )
        for trial in snapshot.trials
    ]  # fmt: skip
    front = [(point.trial, point.step, point.adapter_params, point.score) for point in snapshot.points]
    folder = place / "runs" / name
    files = {str(file.relative_to(folder)) for file in folder.glob("trials/*/*")}
    predictions = {
        file.name: [outcomes.values.tolist() for outcomes in read(file)]
        for file in (folder / "predictions").glob("*.npz")
    }
    again = {key: result | {"seconds": 0.0} for key, result in snapshot.confirmed.items()}
    return {
        "trials": trials, "front": front, "again": again, "files": files, "predictions": predictions,
        "mlflow": _runs(place, name),
    }  # fmt: skip


def _runs(place: Path, name: str) -> list[Any]:
    """Of each run in MLflow: which trial, its state, parameters, and the history of its score."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return sorted(
        (
            int(run.data.tags.get("autorank.trial", -1)), run.info.status, sorted(run.data.params.items()),
            [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "score")],
        )
        for run in client.search_runs([experiment.experiment_id])
    )  # fmt: skip
