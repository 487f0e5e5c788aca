"""`autorank ui`: a real MLflow server that listens on loopback only and leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import psutil
import pytest

from autorank.errors import AutorankError
from autorank.tracking import mlflow_server
from autorank.tracking.mlflow_server import ENVIRONMENT, check_port, serve
from autorank.tracking.mlflow_sync import MLflowSync
from tests.sockets import listen_addresses
from tests.trials.trial_factories import search, snapshot, trial

pytestmark = pytest.mark.long


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_server_listens_on_loopback_and_ends_on_a_signal(tmp_path, kind):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if kind is signal.SIGINT:
        MLflowSync(uri, search(), "s1").push(snapshot([trial(0, (100, 0.6))]), final=True)
    else:
        (tmp_path / "mlflow.db").touch()  # a server makes the tables itself
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "autorank.cli.app", "ui", "--runs", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | {"SSH_CONNECTION": "there", "HTTP_PROXY": "http://127.0.0.1:9"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else ignored in the background
    ) as server:  # fmt: skip
        line = server.stdout.readline()
        address = re.match(r"http://127\.0\.0\.1:\d+", line)[0]
        assert "ssh -L" in server.stdout.readline()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = opener.open(address).read().decode()
        assert "MLflow" in page and '"mlflow.workflowType_v1": "machine_learning"' in page
        telemetry = json.load(opener.open(f"{address}/ajax-api/3.0/mlflow/ui-telemetry"))
        assert telemetry["disable_ui_telemetry"] is True
        with pytest.raises(urllib.error.HTTPError, match="404"):
            opener.open(f"{address}/ajax-api/3.0/mlflow/assistant/config")
        processes = psutil.Process(server.pid).children(recursive=True)
        assert listen_addresses(psutil.Process(server.pid)) == {"127.0.0.1"}
        server.send_signal(kind)
        out, errors = server.communicate(timeout=60)
    assert server.returncode == 0 and out == "" and "Traceback" not in errors
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_does_not_start_says_why(monkeypatch):
    monkeypatch.setattr("autorank.tracking.mlflow_server._answers", lambda port: False)
    problem = r"exited unexpectedly(.|\n)*address already in use"  # MLflow's exit code is 0 even so
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(AutorankError, match=problem):
            serve("sqlite://", listener.getsockname()[1], lambda: pytest.fail("it is not ready"))


def test_a_second_ctrl_c_kills_at_once(monkeypatch):
    class Server:
        pid, waits = 0, 0

        def wait(self, patience):
            self.waits += 1
            if self.waits == 1:
                raise KeyboardInterrupt

    signals, server = [], Server()
    monkeypatch.setattr("os.killpg", lambda pid, signal_number: signals.append(signal_number))
    mlflow_server._end(server)
    assert signals == [signal.SIGTERM, signal.SIGKILL] and server.waits == 2


def test_an_answer_that_is_not_http_is_ignored():
    with socket.socket() as mail_server:
        mail_server.bind(("127.0.0.1", 0))
        mail_server.listen()

        def speak():
            with mail_server.accept()[0] as peer:
                peer.recv(1000)
                peer.sendall(b"220 mail\r\n")

        speaker = threading.Thread(target=speak)
        speaker.start()
        assert not mlflow_server._answers(mail_server.getsockname()[1])
        speaker.join()


def test_a_port_that_is_taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(
            AutorankError, match=f"--port {port}: Address already in use. Use another port, or omit --port"
        ):
            check_port(port)
    assert check_port(port) == port


def test_no_jobs_and_no_telemetry_unless_the_user_wants_them(monkeypatch):
    variables = {}

    def start(command, env, **_):
        variables.update(env)
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr("subprocess.Popen", start)
    with pytest.raises(KeyboardInterrupt):
        serve("sqlite://", 1, lambda: None)
    assert ENVIRONMENT["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true" and variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "true"


def test_the_page_on_a_tracking_server_is_printed(monkeypatch, capsys):
    from autorank.cli.results import ui

    monkeypatch.setattr("autorank.tracking.search_page.page", lambda uri, name: "/#/experiments/7/runs")
    ui(tracking_uri="http://me:secret-of-mine@tracking:5000/")
    out = capsys.readouterr().out
    assert out.rstrip().endswith("tracking:5000/#/experiments/7/runs") and "secret-of-mine" not in out
