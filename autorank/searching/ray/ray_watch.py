"""Notices when Ray is gone or gives no resources, so that a search ends or says why it waits."""

from __future__ import annotations

import _thread
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from autorank.errors import AutorankError
from autorank.searching.ray import _compat
from autorank.searching.ray.resources import Resources

INTERVAL = 2.0  # seconds between checks
FAILURES = 5  # checks in a row in which the head of a cluster does not answer, until it counts as gone
GRACE = 10.0  # seconds that Tune's loop has to end by itself
WAITING = 45.0  # seconds without a running trial until the user is told why
REMINDER = 600.0  # seconds until the user is told again


class RayLost(AutorankError):
    """Ray is gone: its processes have exited, or its head does not answer."""


class RayWatch:
    """Checks Ray in a thread of its own while trials run.

    Args:
        each: What a trial needs.
        warn: Prints a warning.
    """

    def __init__(self, each: Resources, warn: Callable[[str], object]) -> None:
        self.lost: RayLost | None = None
        self._each, self._warn = each, warn
        self._closed = threading.Event()
        self._last_running = time.monotonic()
        self._head: str | None = None
        self._head_failures = 0
        self._thread = threading.Thread(target=self._work, name="autorank-ray-watch", daemon=True)

    def __enter__(self) -> RayWatch:
        import ray

        if ray.is_initialized():  # in the thread these calls would start Ray if it has ended
            self._head = ray.get_runtime_context().gcs_address
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(INTERVAL)

    def on_step(self, running: bool) -> None:
        """Record a step of Tune's loop.

        Args:
            running: Whether a trial runs.
        """
        if running:
            self._last_running = time.monotonic()

    def _work(self) -> None:
        while not self._closed.wait(INTERVAL):
            problem = self._local_problem() or self._head_problem()
            if problem is not None:
                self.lost = RayLost(
                    f"Ray ended unexpectedly: {problem}. Finished trials are kept; the same command continues the "
                    "search. See ray.log in its directory."
                )
                if not self._closed.wait(GRACE):  # Tune's loop is stuck in a call to Ray
                    self._warn(str(self.lost))
                    _thread.interrupt_main()
                return
            if self._head is not None and time.monotonic() - self._last_running > WAITING:
                self._last_running += REMINDER
                self._warn(self._why_waiting())

    def _local_problem(self) -> str | None:
        """Which process of a local Ray has died, as a text."""
        names = sorted(name for name in _compat.dead_processes() if name in ("raylet", "gcs_server"))
        return f"its process {names[0]} died" if names else None

    def _head_problem(self) -> str | None:
        """Whether the head of the cluster answers."""
        if self._head is None:
            return None
        host, _, port = self._head.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=INTERVAL):
                self._head_failures = 0
        except OSError as error:
            self._head_failures += 1
            if self._head_failures >= FAILURES:
                return f"its head at {host}:{port} does not answer ({error.strerror or error})"
        return None

    def _why_waiting(self) -> str:
        """Why no trial runs."""
        import ray

        nodes, free = [node for node in ray.nodes() if node["Alive"]], ray.available_resources()
        cpus, gpus, each = free.get("CPU", 0), free.get("GPU", 0), self._each
        state = (
            f"No trial has run for {WAITING:.0f} seconds. Free on {len(nodes)} node{'s' * (len(nodes) != 1)}: {cpus:g} "
            f"CPUs, {gpus:g} GPUs; a trial needs {each.workers * each.cpus:g} and {each.workers * each.gpus:g}."
        )
        if cpus < each.workers * each.cpus or gpus < each.workers * each.gpus:
            return f"{state} Trials start when other work on the cluster ends, or nodes join."
        return f"{state} Processes start slowly here, or Ray is stuck: see ray.log in the search's directory."
