"""A lost Ray and a search that waits are noticed; Ray itself is not started."""

from __future__ import annotations

import signal
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import worker

from autorank.interruption import as_ctrl_c
from autorank.searching.ray import ray_watch
from autorank.searching.ray.actors import placement_groups
from autorank.searching.ray.ray_watch import RayWatch
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.stalls import TrialProcesses
from autorank.searching.ray.tune_callback import Interrupt

NEEDS = Resources(concurrency=1, cpus=2, gpus=0.0)


@pytest.fixture(autouse=True)
def head(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A head node that listens, and short intervals between checks."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:  # accepts no check
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
        monkeypatch.setattr(worker, "_global_node", None)
        for name, seconds in {"CHECK_INTERVAL_S": 0.02, "LOOP_EXIT_TIMEOUT_S": 5.0}.items():
            monkeypatch.setattr(ray_watch, name, seconds)
        yield server


def wait_until(condition: Any) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing happened within a minute")


def test_a_dead_process_of_a_local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    dead: list[tuple[str, Any]] = [("log_monitor", None)]
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(head=True, dead_processes=lambda: dead))
    with RayWatch(NEEDS, print) as watch:
        time.sleep(0.1)
        assert watch.lost is None  # a search can do without the log monitor
        dead.append(("raylet", None))
        wait_until(lambda: watch.lost is not None)
    assert "its process raylet died" in str(watch.lost)


def test_a_head_that_no_longer_answers(head: socket.socket) -> None:
    with RayWatch(NEEDS, print) as watch:
        time.sleep(0.1)
        assert watch.lost is None
        head.close()
        wait_until(lambda: watch.lost is not None)
    assert "does not answer (Connection refused)" in str(watch.lost)


def test_a_loop_that_is_stuck_is_interrupted(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "LOOP_EXIT_TIMEOUT_S", 0.05)
    warnings: list[str] = []
    head.close()
    with pytest.raises(KeyboardInterrupt), RayWatch(NEEDS, warnings.append):
        time.sleep(60)
    assert "Ray ended unexpectedly" in warnings[0]


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings of a watch with short waiting times, in a cluster of one node."""
    for name, seconds in {"NO_TRIAL_WARNING_S": 0.2, "IDLE_CPU_WARNING_S": 0.2, "RAY_CALL_TIMEOUT_S": 0.2}.items():
        monkeypatch.setattr(ray_watch, name, seconds)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False}])
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 1.0})
    return []


def test_warning_names_the_resources_that_are_missing(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "NO_TRIAL_WARNING_S", 2.0)  # a busy machine may interrupt the loop for a while
    with RayWatch(NEEDS, warnings.append) as watch:
        for _ in range(110):
            watch.on_step(["a"])
            time.sleep(0.02)
        assert not warnings
        wait_until(lambda: warnings)
        time.sleep(0.5)
    (warning,) = warnings  # once
    assert "Free on 1 node: 1 CPUs, 0 GPUs; a trial needs 2 and 0." in warning
    assert watch.lost is None


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [(lambda: time.sleep(2), "has not answered"), (lambda: [{"Alive": False}], "its node does not answer")],
)
def test_ray_that_hangs(nodes: Any, problem: str, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", nodes)
    with RayWatch(NEEDS, warnings.append) as watch:
        wait_until(lambda: watch.lost is not None)
    assert problem in str(watch.lost) and not warnings


def test_a_trial_that_waits_for_its_workers(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    have_started: list[str] = []
    monkeypatch.setattr(placement_groups, "is_stored", lambda trial: trial in have_started)
    with RayWatch(Resources(concurrency=1, cpus=1, gpus=0.0, workers=2), warnings.append) as watch:
        watch.on_step(["a"])
        wait_until(lambda: warnings)
    warnings.clear()
    have_started.append("a")
    with RayWatch(Resources(concurrency=1, cpus=1, gpus=0.0, workers=2), warnings.append) as watch:
        watch.on_step(["a"])
        time.sleep(0.5)
    assert not warnings


def test_trials_that_wait_for_their_pack(warnings: list[str]) -> None:
    """The pack answers as soon as it has its resources."""
    for answers in (False, True):
        warnings.clear()
        with RayWatch(Resources(concurrency=2, cpus=1, gpus=0.0, lanes=2), warnings.append) as watch:
            watch._packs_have_started = lambda answers=answers: answers  # type: ignore[method-assign, misc]
            watch.packs = ["a pack"]
            watch.on_step(["a", "b"])
            time.sleep(0.5)
        assert bool(warnings) is not answers


def test_trials_that_use_no_cpu(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialProcesses, "stuck", lambda self, elapsed: "process 1 is waiting")
    with RayWatch(NEEDS, warnings.append) as watch:
        for _ in range(30):
            watch.on_step(["a"])
            time.sleep(0.02)
    (warning,) = warnings  # once
    assert "process 1 is waiting" in warning


def test_evaluations_that_take_much_longer_than_before(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "STALL_FACTOR", 3)
    with RayWatch(NEEDS, warnings.append) as watch:
        for step in range(3000):
            watch.on_step(["a"])
            if step < 20:
                watch.on_evaluation()
            if warnings:
                break
            time.sleep(0.02)
    assert "No evaluation for 1 minute" in warnings[0]


def test_a_stuck_loop_that_only_notes_the_first_interrupt(
    head: socket.socket, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watch, "LOOP_EXIT_TIMEOUT_S", 0.05)
    head.close()
    with pytest.raises(KeyboardInterrupt), RayWatch(NEEDS, warnings.append), Interrupt() as interrupt:
        for _ in range(12_000):
            time.sleep(0.005)
    assert interrupt.requested


def test_a_stuck_loop_in_a_background_job(
    head: socket.socket, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watch, "LOOP_EXIT_TIMEOUT_S", 0.05)
    head.close()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells do for `command &` in a script
    try:
        with pytest.raises(KeyboardInterrupt), as_ctrl_c(), RayWatch(NEEDS, warnings.append), Interrupt():
            for _ in range(12_000):
                time.sleep(0.005)
    finally:
        signal.signal(signal.SIGINT, before)
