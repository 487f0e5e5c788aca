"""Configuration and fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 leaves trials no time beside other tests


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those marked gpu, which would otherwise train on them, in bf16.

    Signals have their default effects, also where the tests run in the background and would ignore them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    marks = config.option.markexpr
    if "gpu" not in marks or "not gpu" in marks:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


class LoadFolderOrFile(LoadFileScheduling):
    """Runs the tests of a file in one process, and those of tests/browser, since they share a search."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Return the scheduler of `pytest -n`."""
    return LoadFolderOrFile(config, log)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for this test alone."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("AUTORANK_CACHE", str(cache))
    return cache


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray, started once."""
    from autorank.searching.ray.cluster import connection

    with connection.running("local", tmp_path_factory.mktemp("ray") / connection.LOG):
        yield
