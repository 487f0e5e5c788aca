"""Signals to a search and its process group, and a local Ray that dies: the search ends or goes on, and says which."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from autorank.searching.ray.stalls import trial_processes
from tests.faults.searches import essence, finish, make_place, start

pytestmark = pytest.mark.slow
TRIALS = 6
SECONDS = 60  # until a search must have ended; docs/reliability.md has the measured times


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make_place(tmp_path_factory.mktemp("attacked") / "place")
    finish(workspace, "whole", TRIALS)
    return workspace


@pytest.fixture
def attacked(workspace: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[psutil.Process]]]]:
    """Starts a search and waits for its second trial; then its process and those below it."""
    started: list[psutil.Process] = []

    def begin(name: str, terminal: bool = False) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        process = start(workspace, name, trials=TRIALS, start_new_session=True, terminal=terminal)
        while len(list((workspace / "runs" / name / "trials").glob("*"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        started.extend(psutil.Process(process.pid).children(recursive=True))
        return process, started

    yield begin
    for process in started:
        if process.is_running():
            process.kill()


def same_as_undisturbed(workspace: Path, name: str) -> bool:
    finish(workspace, name, TRIALS)
    return essence(workspace, name) == essence(workspace, "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("group", [False, True], ids=["driver", "group"])
def test_a_signal_ends_the_search(workspace: Path, attacked, number: signal.Signals, group: bool) -> None:
    name = f"signal-{number}-{group}"
    process, below = attacked(name)
    (os.killpg if group else os.kill)(process.pid, number)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert f"autorank resume {name}" in printed and "Traceback" not in printed
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive
    assert same_as_undisturbed(workspace, name)


def test_the_terminal_is_closed(workspace: Path, attacked) -> None:
    process, below = attacked("terminal", terminal=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=SECONDS)
    assert not alive
    assert same_as_undisturbed(workspace, "terminal")


def test_the_raylet_dies(workspace: Path, attacked) -> None:
    process, below = attacked("raylet")
    (raylet,) = (child for child in below if child.name() == "raylet")
    raylet.kill()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0, printed
    assert "its process raylet died" in printed and "Restarting Ray." in printed
    assert same_as_undisturbed(workspace, "raylet")


def test_ray_s_control_service_dies(workspace: Path, attacked) -> None:
    process, below = attacked("gcs")
    (service,) = (child for child in below if child.name().startswith("gcs_server"))
    service.kill()
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode in (2, 130), printed
    assert "its process gcs_server died" in printed and "Traceback" not in printed
    assert same_as_undisturbed(workspace, "gcs")


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_process_of_ray_that_is_stopped(workspace: Path, attacked, name: str) -> None:
    """The search ends, or continues with a new Ray; it does not wait without a message."""
    process, below = attacked(f"{name}-stopped")
    for child in below:
        if child.name().startswith(name):
            child.suspend()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode in (0, 2, 130), printed
    assert process.returncode == 0 or "does not answer" in printed or "has not answered" in printed
    assert "Traceback" not in printed
    assert same_as_undisturbed(workspace, f"{name}-stopped")


def test_a_trial_that_is_stopped(workspace: Path, attacked) -> None:
    process, _ = attacked("trial-stopped")
    trials = trial_processes(psutil.Process(process.pid))
    assert trials
    for trial in trials:
        trial.suspend()
    time.sleep(SECONDS)
    for trial in trials:
        trial.resume()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0 and "is stopped by a signal (kill -CONT" in printed
    assert same_as_undisturbed(workspace, "trial-stopped")


def test_a_stopped_search_continues(workspace: Path, attacked) -> None:
    process, _ = attacked("stopped")
    process.send_signal(signal.SIGSTOP)
    time.sleep(20)
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0, printed
    assert same_as_undisturbed(workspace, "stopped")
