"""Searches whose driver or trial is killed have the same results as undisturbed ones."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from autorank.searching.ray.stalls import trial_processes
from autorank.trials.journal.journal_file import JOURNAL
from tests.cli.commands import users_folder
from tests.faults.searches import EXAMPLES, TRIALS, finish, outcome, start

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return users_folder(tmp_path_factory.mktemp("killed"), EXAMPLES)


def undisturbed_outcome(workspace: Path, trials: int) -> dict[str, Any]:
    """The outcome of an undisturbed search."""
    if not (workspace / "runs" / f"whole-{trials}").exists():
        finish(workspace, f"whole-{trials}", trials)
    return outcome(workspace, f"whole-{trials}")


def journal_lines(workspace: Path, name: str) -> int:
    file = workspace / "runs" / name / JOURNAL
    return file.read_bytes().count(b"\n") if file.exists() else 0


def run_with_kills(workspace: Path, name: str, trials: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    """Restarts a search until it completes, and kills it at random times: mostly soon after it wrote to its journal,
    sometimes during its start."""
    rng = random.Random(seed)
    while True:
        process, lines_before = start(workspace, name, trials=trials), journal_lines(workspace, name)
        if rng.random() < 0.15:
            time.sleep(rng.uniform(0, 8))
        else:
            while process.poll() is None and journal_lines(workspace, name) == lines_before:
                time.sleep(0.01)
            time.sleep(rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.0))))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0]
            return
        process.send_signal(signal.SIGKILL)
        process.communicate()
        yield process


@pytest.mark.parametrize(("kills", "trials"), [(1, 3), pytest.param(20, TRIALS, marks=pytest.mark.slow)])
def test_a_driver_killed_at_random_moments(workspace: Path, kills: int, trials: int) -> None:
    name, killed = f"cut-{kills}", 0
    for _ in run_with_kills(workspace, name, trials, seed=kills):
        killed += 1
        if killed == kills:
            finish(workspace, name, trials)
            break
    assert killed == kills, "it ended before; kill it sooner"
    assert outcome(workspace, name) == undisturbed_outcome(workspace, trials)


@pytest.mark.slow
def test_a_trials_process_killed(workspace: Path) -> None:
    process, killed = start(workspace, "actor"), 0
    while process.poll() is None and killed < 3:
        if journal_lines(workspace, "actor") > 12 * (killed + 1):
            for actor in trial_processes(psutil.Process(process.pid)):
                os.kill(actor.pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.05)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert killed >= 3
    assert outcome(workspace, "actor") == undisturbed_outcome(workspace, TRIALS)
