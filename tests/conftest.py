"""Configuration and fixtures of all tests."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 leaves trials no time beside other tests
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # no process for each CPU, most of which stay idle


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


@pytest.fixture
def own_directories(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and a storage directory of Ray Tune for this test alone."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "ray"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with two models, `model` with dropout and `plain` without, the data, and a cache."""
    from tests import tiny_models
    from tests.cache_dirs import cached_in
    from tests.trainables.conformance_runs import write_model

    folder = tmp_path_factory.mktemp("workspace")
    write_model(folder / "model", dropout=0.1)
    write_model(folder / "plain", dropout=0.0)
    tiny_models.pairs_folder(folder / "data", 60, 20)
    with cached_in(folder):
        yield folder


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that no other process takes, but on which no server listens."""
    with socket.socket() as bound_socket:
        bound_socket.bind(("127.0.0.1", 0))
        yield bound_socket.getsockname()[1]


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray, started once."""
    from autorank.searching.ray.cluster import connection

    with connection.running("local", tmp_path_factory.mktemp("ray") / connection.LOG):
        yield
