"""Where the files of a search lie, and which of them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autorank.errors import AutorankError
from autorank.results.front import front
from autorank.results.records import TrialRecord


def run_folder(runs: Path, name: str) -> Path:
    """The folder of the search `name` in the folder of runs.

    Raises:
        AutorankError: the name leads elsewhere.
    """
    folder = (Path(runs) / name).resolve()
    if folder.parent != Path(runs).resolve() or not name.strip("."):
        raise AutorankError(
            f"The name {name!r} leads out of the folder of runs, {runs}. "
            "Use letters, digits, dots, dashes and underscores; --runs DIR chooses another folder."
        )
    return folder


def adapter_path(folder: Path, trial: int, step: int) -> Path:
    """The adapter of a trial's evaluation at `step`; only those on the front are kept."""
    return folder / "trials" / str(trial) / f"step-{step}.safetensors"


def sweep(folder: Path, trials: Sequence[TrialRecord]) -> None:
    """Delete the adapters that are not on the front, but for those whose evaluation is still on its way."""
    kept = {adapter_path(folder, point.trial, point.step) for point in front(trials)}
    known = {
        adapter_path(folder, trial.number, evaluation.step) for trial in trials for evaluation in trial.evaluations
    }
    running = {str(trial.number) for trial in trials if trial.state == "running"}
    for file in folder.glob("trials/*/*"):
        if file not in kept and (file in known or file.parent.name not in running):
            file.unlink(missing_ok=True)
    for trial in folder.glob("trials/*"):
        if trial.name not in running and not any(trial.iterdir()):
            trial.rmdir()
