"""Runs the MLflow UI for a store, accessible from this machine only, until Ctrl-C."""

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
from collections.abc import Callable

from autorank.errors import AutorankError

HOST = "127.0.0.1"
APP = "autorank"  # entry point of `tracking.mlflow_app`
ENVIRONMENT = {  # unless the user has set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # would start processes for evaluations of language models
}
LINES = 20  # lines of the server's output in an error message
SHUTDOWN_TIMEOUT_S = 10.0  # seconds for the server to shut down


def check_port(port: int) -> int:
    """Check that a port is free.

    Args:
        port: The port; 0: choose a free one.

    Returns:
        The port.

    Raises:
        AutorankError: The port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise AutorankError(
                f"--port {port}: {error.strerror}. Use another port, or omit --port to choose a free one."
            ) from error
        return int(probe.getsockname()[1])


def serve(uri: str, port: int, ready: Callable[[], object]) -> None:
    """Serve a store until KeyboardInterrupt. MLflow's output is shown only if the server exits unexpectedly.

    Args:
        uri: Address of the store.
        port: Port of the server.
        ready: Called when the server answers.

    Raises:
        AutorankError: The server exited unexpectedly.
    """
    options = ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    options += ["--app-name", APP]
    # not on the command line, because the address may contain a password and other users can list processes
    environment = ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", *options], env=environment, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must not reach the server's processes, which would print tracebacks
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
    """Stop the server and the processes it started. Another Ctrl-C kills them without waiting."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            server.wait(SHUTDOWN_TIMEOUT_S)
