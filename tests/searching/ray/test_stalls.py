"""Why trials do not progress: resources, and processes that use no CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from autorank.searching.ray.resources import Resources
from autorank.searching.ray.stalls import TrialProcesses, trial_processes, why_waiting


@pytest.mark.parametrize(
    ("nodes", "free", "reason"),
    [
        ([4, 4], 1, "other work on the cluster ends"),
        ([4, 4], 8, "see ray.log"),
        ([1, 1, 1], 3, "too small for it, because a node has left"),
    ],
)
def test_why_no_trial_runs(nodes: list[int], free: int, reason: str) -> None:
    trial = Resources(concurrency=1, cpus=2, gpus=0.0)
    text = why_waiting([{"CPU": cpus} for cpus in nodes], {"CPU": free}, trial)
    assert f"Free on {len(nodes)} nodes: {free} CPUs, 0 GPUs; a trial needs 2 and 0." in text and reason in text


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[psutil.Process]:
    """A process with one child, a program with the name of a trial's process.

    The test's own process may have children of a Ray that other tests use.
    """
    program, *arguments = request.param
    (tmp_path / "ray::Trial").symlink_to(program)  # the name of a process is that of its program
    command = ["/bin/sh", "-c", '"$@" & wait', "sh", str(tmp_path / "ray::Trial"), *arguments]
    started = subprocess.Popen(command, start_new_session=True)
    process = psutil.Process(started.pid)
    wait_until(lambda: bool(trial_processes(process)))
    yield process
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


@pytest.mark.parametrize("driver", [("/bin/sh", "-c", "while :; do :; done")], indirect=True)
def test_a_process_that_works_until_it_is_stopped(driver: psutil.Process) -> None:
    processes = TrialProcesses(driver)
    assert processes.stuck(1.0) is None  # nothing to compare with
    time.sleep(0.5)
    assert processes.stuck(0.5) is None
    (trial,) = driver.children()
    trial.suspend()
    wait_until(lambda: trial.status() == psutil.STATUS_STOPPED)  # a busy machine delivers signals late
    processes.stuck(0.5)
    assert processes.stuck(0.5) == f"process {trial.pid} is stopped by a signal (kill -CONT {trial.pid} continues it)"


@pytest.mark.parametrize("driver", [("/bin/sleep", "60")], indirect=True)
def test_a_process_that_waits(driver: psutil.Process) -> None:
    processes = TrialProcesses(driver)
    processes.stuck(1.0)
    time.sleep(0.3)
    (trial,) = driver.children()
    assert processes.stuck(0.3) == f"process {trial.pid} is waiting"


@pytest.mark.parametrize("driver", [("/bin/sleep", "60")], indirect=True)
def test_no_processes(driver: psutil.Process) -> None:
    (trial,) = driver.children()
    processes = TrialProcesses(trial)  # which has no children
    assert processes.stuck(1.0) is None and processes.stuck(1.0) is None
