"""Starts searches in subprocesses, and reads their results for comparisons."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorank.tasks.metrics.outcomes import unpack
from autorank.trials.journal.journal import Journal
from tests.cli.commands import DATA_OPTIONS, subprocess_environment

TRIALS = 12
EXAMPLES = 200


def start(
    workspace: Path,
    name: str,
    *extra: str,
    trials: int = TRIALS,
    start_new_session: bool = False,
    terminal: bool = False,
) -> subprocess.Popen[str]:
    """Starts `autorank search` with one trial at a time, so that results do not depend on timing, and with one new seed
    for each point of the front. With `terminal`, the search is the child of a process that is its terminal."""
    command = [
        sys.executable, "-m", "autorank.cli.app", "search", "--method", "lora", *DATA_OPTIONS, "--space", "space.yaml",
        "--epochs", "4", "--name", name, "--trials", str(trials), "--concurrency", "1", "--confirm-seeds", "1", *extra,
    ]  # fmt: skip
    if terminal:
        command = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *command]
    return subprocess.Popen(
        command, cwd=workspace, env=subprocess_environment(workspace, OMP_NUM_THREADS="1"), text=True,
        stderr=subprocess.STDOUT, stdout=subprocess.DEVNULL if terminal else subprocess.PIPE,
        start_new_session=start_new_session, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup
    )  # fmt: skip


def finish(workspace: Path, name: str, trials: int = TRIALS) -> str:
    """Runs or continues a search to its end and returns its output."""
    process = start(workspace, name, trials=trials)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


def outcome(workspace: Path, name: str) -> dict[str, Any]:
    """The results of a search without times, names and ids: trials, front, files, predictions and runs in MLflow."""
    snapshot = Journal.open(workspace / "runs" / name).snapshot()
    trials = [
        replace(
            trial, started=0.0, ended=0.0, seconds=0.0, retries=0,
            evaluations=tuple(replace(evaluation, seconds=0.0) for evaluation in trial.evaluations),
        )
        for trial in snapshot.trials
    ]  # fmt: skip
    front = [(point.trial, point.step, point.adapter_params, point.score) for point in snapshot.points]
    folder = workspace / "runs" / name
    files = {str(file.relative_to(folder)) for file in folder.glob("trials/*/*")}
    predictions = {
        file.name: [outcomes.values.tolist() for outcomes in unpack(file.read_bytes())]
        for file in (folder / "predictions").glob("*.npz")
    }
    confirmed = {key: result | {"seconds": 0.0} for key, result in snapshot.confirmed.items()}
    return {
        "trials": trials, "front": front, "again": confirmed, "files": files, "predictions": predictions,
        "mlflow": _runs(workspace, name),
    }  # fmt: skip


def _runs(workspace: Path, name: str) -> list[Any]:
    """Trial, state, parameters and score history of each run in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return sorted(
        (
            int(run.data.tags.get("autorank.trial", -1)), run.info.status, sorted(run.data.params.items()),
            [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "score")],
        )
        for run in client.search_runs([experiment.experiment_id])
    )  # fmt: skip
