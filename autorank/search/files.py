"""Where the files of a search lie, and which of them are kept."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from autorank.errors import AutorankError
from autorank.results.archive import Snapshot

ADAPTER, CHECKPOINT = ".safetensors", "run.pt"


def run_folder(runs: Path, name: str) -> Path:
    """The folder of the search `name` in the folder of runs.

    Raises:
        AutorankError: the name leads elsewhere, or the folder is an address.
    """
    if re.match(r"[a-z0-9]+:/", str(runs)):
        raise AutorankError(
            f"--runs {runs} is no folder. A journal is appended to line by line, which object storage cannot do; give "
            "a folder, on storage that all nodes share if there are several."
        )
    folder = (Path(runs) / name).resolve()
    if folder.parent != Path(runs).resolve() or not name.strip("."):
        raise AutorankError(
            f"The name {name!r} leads out of the folder of runs, {runs}. "
            "Use letters, digits, dots, dashes and underscores; --runs DIR chooses another folder."
        )
    return folder


def adapter_path(folder: Path, trial: int | str, step: int) -> Path:
    """The adapter of a trial's evaluation at `step`; only those on a front are kept."""
    return folder / "trials" / str(trial) / f"step-{step}.safetensors"


def checkpoint_path(folder: Path, trial: int | str) -> Path:
    """The last checkpoint of a trial that has not ended."""
    return folder / "trials" / str(trial) / CHECKPOINT


def sweep(folder: Path, snapshot: Snapshot) -> None:
    """Delete adapters that are on no front and checkpoints of trials that have ended, but for what a running trial has
    written and not yet told."""
    kept = {adapter_path(folder, point.trial, point.step) for point in (*snapshot.points, *snapshot.control)}
    for file in folder.glob("trials/*/*"):
        number = file.parent.name
        if not number.isdigit() or int(number) >= len(snapshot.trials):
            continue  # not ours
        trial = snapshot.trials[int(number)]
        running = trial.state == "running"
        if file in kept or (running and (file.suffix != ADAPTER or int(file.stem.removeprefix("step-")) > trial.step)):
            continue
        # a worker that is just being ended may still write there, and network storage has its ways: next time, then
        with contextlib.suppress(OSError):
            file.unlink()
            if not running and not any(file.parent.iterdir()):
                file.parent.rmdir()
