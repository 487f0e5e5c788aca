"""MLflow's own pages on a store, served to this machine alone until Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from autorank.errors import AutorankError

HOST = "127.0.0.1"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes for evaluations of language models
}
LINES = 20  # of what the server said, where it fails
PATIENCE = 10.0  # seconds for the server to end in good order


def free(port: int) -> int:
    """The port if nobody listens there; of 0, any such port.

    Raises:
        AutorankError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was in use a moment ago is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise AutorankError(f"--port {port}: {error.strerror}. Leave it out, and a free one is taken.") from error
        return int(probe.getsockname()[1])


def serve(uri: str, port: int, ready: Callable[[], object]) -> None:
    """Serve the store at `uri` until Ctrl-C. What MLflow has to say is kept to itself, unless it does not start.

    Args:
        ready: called when it answers.

    Raises:
        AutorankError: the server exited unexpectedly.
    """
    options = ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # by the environment, not the command line: a database's URI may hold a password, and anyone can list processes
    environment = os.environ | ENVIRONMENT | {"MLFLOW_BACKEND_STORE_URI": uri}
    with tempfile.TemporaryFile("w+") as log, _asked_to_end():
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", *options], env=environment, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is ours; the server's processes would all print of it
        )  # fmt: skip
        try:
            while server.poll() is None and not _answers(port):
                time.sleep(0.2)
            if server.poll() is None:
                ready()
            server.wait()
        except KeyboardInterrupt:
            return
        finally:
            _end(server)
        log.seek(0)
        last = "".join(log.readlines()[-LINES:])
    raise AutorankError(f"MLflow's server exited unexpectedly. Last output:\n{last}")


def _answers(port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (http.client.HTTPException, OSError):
        return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """The server and the processes that it started. Another Ctrl-C does not wait: it kills them."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            server.wait(PATIENCE)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[None]:
    """Within it a closed terminal and a plain `kill` are as Ctrl-C: no server stays behind."""

    def interrupt(kind: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
