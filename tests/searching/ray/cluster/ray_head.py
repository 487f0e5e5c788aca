"""A Ray cluster of one node as on another machine: in a separate process, with a Python without autorank."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

from tests.sockets import free_port


def bare_python(folder: Path) -> Path:
    """Make a Python with all packages of this one except autorank."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(name).iterdir():
            is_autorank = entry.name.lower().startswith(("autorank", "_editable_impl_autorank", "__editable__"))
            if not is_autorank and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@contextlib.contextmanager
def head(python: Path, home: Path, token: str | None = None, cpus: int = 2) -> Iterator[str]:
    """Run a cluster, which requires `token` if given, and yield its dashboard's address."""
    port = free_port()
    temp_dir = Path(tempfile.mkdtemp(prefix="ar-", dir="/tmp"))  # sockets' paths are limited to 107 characters
    arguments = [
        "start", "--head", "--block", "--port", free_port(), "--dashboard-host", "127.0.0.1", "--dashboard-port", port,
        "--dashboard-agent-listen-port", free_port(), "--temp-dir", temp_dir, "--num-cpus", cpus,
        "--object-store-memory", 128 * 2**20, "--disable-usage-stats",
    ]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    env = inherited | {"HOME": str(home), "PATH": f"{python.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    with (temp_dir / "start.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "ray.scripts.scripts", *map(str, arguments)], cwd=home, env=env, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        _await(address, process, temp_dir / "start.log")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)  # with --block it ends the processes that it started
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temp_dir, ignore_errors=True)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the dashboard answers, even if only to ask for a token."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise RuntimeError(log.read_text())
