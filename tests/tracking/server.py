"""Runs an MLflow server on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """Context in which an MLflow server answers at the address that is yielded; it stores everything in `folder`."""
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'server.db'}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder, stdout=log, stderr=log, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
