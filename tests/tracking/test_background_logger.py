"""The background thread that logs a running search: the server is unreachable, hangs or comes back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from autorank.errors import AutorankError
from autorank.tracking.background_logger import BackgroundLogger
from autorank.tracking.mlflow_client import ENVIRONMENT, quietly
from tests.tracking.mlflow_reader import history
from tests.trials.trial_factories import snapshot


@pytest.fixture
def dead_server(closed_port):
    """An address without a server."""
    return f"http://user:secret@127.0.0.1:{closed_port}"


def test_a_dead_server_is_one_message_without_the_password(new_sync, dead_server, trials, own):
    with pytest.raises(AutorankError, match=f"autorank sync {own.name}") as error:
        new_sync(uri=dead_server).push(snapshot(trials))
    assert "Connection refused" in str(error.value) and "secret" not in str(error.value)


def test_logger_warns_once_of_a_dead_server_and_closes(new_sync, dead_server, trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.UPDATE_INTERVAL_S", 0.01)
    warnings = []
    mlflow_logger = BackgroundLogger(new_sync(uri=dead_server), warnings.append)
    mlflow_logger.update(snapshot(trials))
    assert mlflow_logger.close(timeout=60) is False
    assert len(warnings) == 1 and "cannot be reached" in warnings[0]


def test_logger_closes_while_a_push_hangs(trials):
    class HangingSync:
        def push(self, *_):
            threading.Event().wait()

    mlflow_logger = BackgroundLogger(HangingSync())
    mlflow_logger.update(snapshot(trials))
    assert mlflow_logger.close(timeout=0.05) is False


def test_logger_sends_the_last_snapshot_and_ends_the_run(new_sync, trials, client, server_runs):
    mlflow_logger = BackgroundLogger(new_sync())
    for count in range(1, 5):
        mlflow_logger.update(snapshot(trials[:count]))
    assert mlflow_logger.close(timeout=120) is True
    parent, nested = server_runs()
    assert parent.info.status == "FINISHED" and sorted(nested) == [0, 1, 2, 3]
    assert len(history(client, nested[0], "score")) == 2


def test_logger_catches_up_when_the_server_comes_back(trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.UPDATE_INTERVAL_S", 0.01)
    pushed = []

    class FlakySync:
        def push(self, snapshot, final):
            pushed.append((len(snapshot.trials), final))
            if len(pushed) < 3:
                raise AutorankError("away")

    warnings = []
    mlflow_logger = BackgroundLogger(FlakySync(), warnings.append)
    mlflow_logger.update(snapshot(trials))
    while len(pushed) < 3:
        time.sleep(0.001)
    assert mlflow_logger.close(timeout=10) is True
    assert pushed[:3] == [(4, False)] * 3 and pushed[-1] == (4, True) and warnings == ["away"]


def test_logger_skips_unchanged_snapshots(trials, monkeypatch):
    monkeypatch.setattr("autorank.tracking.background_logger.UPDATE_INTERVAL_S", 0.001)
    pushed = []

    class CountingSync:
        def push(self, snapshot, final):
            pushed.append(final)

    mlflow_logger = BackgroundLogger(CountingSync())
    mlflow_logger.update(snapshot(trials))
    while not pushed:
        time.sleep(0.001)
    for _ in range(20):
        mlflow_logger.update(snapshot(trials))
        time.sleep(0.002)
    assert mlflow_logger.close(timeout=10) is True and pushed == [False, True]


def test_logger_sends_confirmations_of_the_front(trials):
    pushed = []

    class RecordingSync:
        def push(self, snapshot, final):
            pushed.append(dict(snapshot.confirmed))

    mlflow_logger = BackgroundLogger(RecordingSync())
    mlflow_logger.update(snapshot(trials))
    mlflow_logger.update(replace(snapshot(trials), confirmed={(0, 20, 100, 1): {"score": 0.7}}))
    assert mlflow_logger.close(timeout=10) is True and pushed[-1] == {(0, 20, 100, 1): {"score": 0.7}}


def test_environment_and_log_level_are_restored(monkeypatch):
    """After a push and after a search. A search sets the variables until it ends, since other threads read them too."""
    (preset, default), *unset = ENVIRONMENT.items()
    monkeypatch.setenv(preset, "7")
    for name, _ in unset:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging.getLogger("mlflow"), "level", logging.DEBUG)
    before = dict(os.environ)
    with quietly(logging.ERROR), quietly():
        assert os.environ[preset] == "7" != default and all(os.environ[name] == value for name, value in unset)
    assert dict(os.environ) == before and logging.getLogger("mlflow").level == logging.DEBUG

    class CheckingSync:
        def push(self, *_):
            assert all(name in os.environ for name in ENVIRONMENT)

    mlflow_logger = BackgroundLogger(CheckingSync())
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
