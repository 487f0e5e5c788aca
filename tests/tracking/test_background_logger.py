"""The thread that sends a search live: a server that is away, hangs or comes back."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from autorank.errors import AutorankError
from autorank.tracking.background_logger import BackgroundLogger
from autorank.tracking.mlflow_client import ENVIRONMENT, quietly
from tests.tracking.projected import history
from tests.trials.made_trials import snapshot


@pytest.fixture
def dead():
    """An address where nobody listens: bound, so that nobody else takes it, and never listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://user:secret@127.0.0.1:{bound.getsockname()[1]}"


def test_a_dead_server_is_one_message_without_the_password(new_sync, dead, trials, own):
    with pytest.raises(AutorankError, match=f"autorank sync {own.name}") as error:
        new_sync(uri=dead).push(snapshot(trials))
    assert "Connection refused" in str(error.value) and "secret" not in str(error.value)


def test_tracker_warns_once_of_a_dead_server_and_closes(new_sync, dead, trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.PAUSE", 0.01)
    warnings = []
    mlflow_logger = BackgroundLogger(new_sync(uri=dead), warnings.append)
    mlflow_logger.update(snapshot(trials))
    assert mlflow_logger.close(timeout=60) is False
    assert len(warnings) == 1 and "cannot be reached" in warnings[0]


def test_tracker_that_hangs_does_not_hold_up_closing(trials):
    class Hanging:
        def push(self, *_):
            threading.Event().wait()

    mlflow_logger = BackgroundLogger(Hanging())
    mlflow_logger.update(snapshot(trials))
    assert mlflow_logger.close(timeout=0.05) is False


def test_tracker_sends_the_last_snapshot_and_ends_the_run(new_sync, trials, client, server_runs):
    mlflow_logger = BackgroundLogger(new_sync())
    for count in range(1, 5):
        mlflow_logger.update(snapshot(trials[:count]))
    assert mlflow_logger.close(timeout=120) is True
    parent, nested = server_runs()
    assert parent.info.status == "FINISHED" and sorted(nested) == [0, 1, 2, 3]
    assert len(history(client, nested[0], "score")) == 2


def test_tracker_catches_up_when_the_server_comes_back(trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.PAUSE", 0.01)
    pushed = []

    class Flaky:
        def push(self, snapshot, final):
            pushed.append((len(snapshot.trials), final))
            if len(pushed) < 3:
                raise AutorankError("away")

    warnings = []
    mlflow_logger = BackgroundLogger(Flaky(), warnings.append)
    mlflow_logger.update(snapshot(trials))
    while len(pushed) < 3:
        time.sleep(0.001)
    assert mlflow_logger.close(timeout=10) is True
    assert pushed[:3] == [(4, False)] * 3 and pushed[-1] == (4, True) and warnings == ["away"]


def test_tracker_ignores_snapshots_that_say_nothing_new(trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.PAUSE", 0.001)
    pushed = []

    class Counting:
        def push(self, snapshot, final):
            pushed.append(final)

    mlflow_logger = BackgroundLogger(Counting())
    mlflow_logger.update(snapshot(trials))
    while not pushed:
        time.sleep(0.001)
    for _ in range(20):
        mlflow_logger.update(snapshot(trials))
        time.sleep(0.002)
    assert mlflow_logger.close(timeout=10) is True and pushed == [False, True]


def test_tracker_sends_what_confirmed_the_front(trials):
    pushed = []

    class Keeping:
        def push(self, snapshot, final):
            pushed.append(dict(snapshot.confirmed))

    mlflow_logger = BackgroundLogger(Keeping())
    mlflow_logger.update(snapshot(trials))
    mlflow_logger.update(replace(snapshot(trials), confirmed={(0, 20, 100, 1): {"score": 0.7}}))
    assert mlflow_logger.close(timeout=10) is True and pushed[-1] == {(0, 20, 100, 1): {"score": 0.7}}


def test_mlflow_is_left_as_it_was(monkeypatch):
    """After a push, and after a search, whose variables are set for its whole time: other threads read them too."""
    (kept, given), *others = ENVIRONMENT.items()
    monkeypatch.setenv(kept, "7")
    for name, _ in others:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging.getLogger("mlflow"), "level", logging.DEBUG)
    before = dict(os.environ)
    with quietly(logging.ERROR), quietly():
        assert os.environ[kept] == "7" != given and all(os.environ[name] == value for name, value in others)
    assert dict(os.environ) == before and logging.getLogger("mlflow").level == logging.DEBUG

    class Sending:
        def push(self, *_):
            assert all(name in os.environ for name in ENVIRONMENT)

    mlflow_logger = BackgroundLogger(Sending())
    assert set(ENVIRONMENT) <= set(os.environ) and mlflow_logger.close()
    assert dict(os.environ) == before


def test_mlflow_is_imported_before_the_thread_starts():
    """Ray imports MLflow in the main thread; two imports of it at the same time can end in a deadlock error."""
    code = (
        "import sys, threading; from unittest.mock import Mock\n"
        "from autorank.tracking.background_logger import BackgroundLogger\n"
        "threading.Thread.start = lambda self: None\n"
        "BackgroundLogger(Mock()); assert 'mlflow.tracking' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
