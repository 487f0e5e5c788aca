"""Signals to a search and its process group, and a local Ray that dies: the search ends or continues."""

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
from tests.cli.commands import users_folder
from tests.faults.searches import EXAMPLES, finish, outcome, start

pytestmark = pytest.mark.slow
TRIALS = 6
SECONDS = 60  # until a search must have ended; docs/reliability.md has the measured times


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = users_folder(tmp_path_factory.mktemp("attacked"), EXAMPLES)
    finish(workspace, "whole", TRIALS)
    return workspace


@pytest.fixture
def start_search(workspace: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[psutil.Process]]]]:
    """Starts a search and waits for its second trial; returns its process and the child processes."""
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


def equals_undisturbed(workspace: Path, name: str) -> bool:
    finish(workspace, name, TRIALS)
    return outcome(workspace, name) == outcome(workspace, "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("group", [False, True], ids=["driver", "group"])
def test_a_signal_ends_the_search(workspace: Path, start_search, number: signal.Signals, group: bool) -> None:
    name = f"signal-{number}-{group}"
    process, children = start_search(name)
    (os.killpg if group else os.kill)(process.pid, number)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert f"autorank resume {name}" in printed and "Traceback" not in printed
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert equals_undisturbed(workspace, name)


def test_a_closed_terminal_ends_the_search(workspace: Path, start_search) -> None:
    process, children = start_search("terminal", terminal=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert not alive
    assert equals_undisturbed(workspace, "terminal")


def test_ray_is_restarted_after_its_raylet_died(workspace: Path, start_search) -> None:
    process, children = start_search("raylet")
    (raylet,) = (child for child in children if child.name() == "raylet")
    raylet.kill()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0, printed
    assert "its process raylet died" in printed and "Restarting Ray." in printed
    assert equals_undisturbed(workspace, "raylet")


def test_the_search_ends_when_ray_s_control_service_died(workspace: Path, start_search) -> None:
    process, children = start_search("gcs")
    (service,) = (child for child in children if child.name().startswith("gcs_server"))
    service.kill()
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode in (2, 130), printed
    assert "its process gcs_server died" in printed and "Traceback" not in printed
    assert equals_undisturbed(workspace, "gcs")


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_suspended_process_of_ray(workspace: Path, start_search, name: str) -> None:
    """The search ends, or continues with a new Ray; it does not wait without a message."""
    process, children = start_search(f"{name}-stopped")
    for child in children:
        if child.name().startswith(name):
            child.suspend()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode in (0, 2, 130), printed
    assert process.returncode == 0 or "does not answer" in printed or "has not answered" in printed
    assert "Traceback" not in printed
    assert equals_undisturbed(workspace, f"{name}-stopped")


def test_a_suspended_trial(workspace: Path, start_search) -> None:
    process, _ = start_search("trial-stopped")
    trials = trial_processes(psutil.Process(process.pid))
    assert trials
    for trial in trials:
        trial.suspend()
    time.sleep(SECONDS)
    for trial in trials:
        trial.resume()
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0 and "is stopped by a signal (kill -CONT" in printed
    assert equals_undisturbed(workspace, "trial-stopped")


def test_a_suspended_search_continues(workspace: Path, start_search) -> None:
    process, _ = start_search("stopped")
    process.send_signal(signal.SIGSTOP)
    time.sleep(20)
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=3 * SECONDS)
    assert process.returncode == 0, printed
    assert equals_undisturbed(workspace, "stopped")
