"""A lost Ray is noticed, and so is a search that waits; Ray itself is not started."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import worker

from autorank.searching.ray import ray_watch
from autorank.searching.ray.ray_watch import RayWatch
from autorank.searching.ray.resources import Resources

NEEDS = Resources(concurrency=1, cpus=2, gpus=0.0)


@pytest.fixture(autouse=True)
def head(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A head that listens, and quick checks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
        monkeypatch.setattr(worker, "_global_node", None)
        for name, seconds in {"INTERVAL": 0.02, "GRACE": 5.0}.items():
            monkeypatch.setattr(ray_watch, name, seconds)
        yield server


def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing happened within 5 seconds")


def test_a_dead_process_of_a_local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    dead: list[tuple[str, Any]] = [("log_monitor", None)]
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(head=True, dead_processes=lambda: dead))
    with RayWatch(NEEDS, print) as watch:
        time.sleep(0.1)
        assert watch.lost is None  # a search can do without the log monitor
        dead.append(("raylet", None))
        until(lambda: watch.lost is not None)
    assert "its process raylet died" in str(watch.lost)


def test_a_head_that_no_longer_answers(head: socket.socket) -> None:
    with RayWatch(NEEDS, print) as watch:
        time.sleep(0.1)
        assert watch.lost is None
        head.close()
        until(lambda: watch.lost is not None)
    assert "does not answer (Connection refused)" in str(watch.lost)


def test_a_loop_that_is_stuck_is_interrupted(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "GRACE", 0.05)
    warnings: list[str] = []
    head.close()
    with pytest.raises(KeyboardInterrupt), RayWatch(NEEDS, warnings.append):
        time.sleep(5)
    assert "Ray ended unexpectedly" in warnings[0]


@pytest.mark.parametrize(("free", "reason"), [(1.0, "other work on the cluster ends"), (4.0, "see ray.log")])
def test_why_nothing_runs(free: float, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "WAITING", 0.2)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": free})
    warnings: list[str] = []
    with RayWatch(NEEDS, warnings.append) as watch:
        for _ in range(20):
            watch.on_step(running=True)
            time.sleep(0.02)
        assert not warnings
        until(lambda: warnings)
        time.sleep(0.5)
    (warning,) = warnings  # once
    assert f"Free on 1 node: {free:g} CPUs, 0 GPUs; a trial needs 2 and 0." in warning and reason in warning
