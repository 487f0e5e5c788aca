"""Notices when Ray is gone or trials do not progress, so that a search ends or says why it waits."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import psutil

from autorank.errors import AutorankError, counted
from autorank.interruption import interrupt_main_thread
from autorank.searching.ray import _compat
from autorank.searching.ray.actors import placement_groups
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.stalls import TrialProcesses, why_waiting

logger = logging.getLogger(__name__)
T = TypeVar("T")

CHECK_INTERVAL_S = 2.0  # seconds between checks
MAX_FAILED_HEAD_CHECKS = 5  # checks in a row in which the head of a cluster does not answer, until it counts as gone
LOOP_EXIT_TIMEOUT_S = 10.0  # seconds that Tune's loop has to end by itself
RAY_CALL_TIMEOUT_S = 5.0  # seconds in which Ray must answer
NO_TRIAL_WARNING_S = 40.0  # seconds without a running trial, after which a warning says why
IDLE_CPU_WARNING_S = 25.0  # seconds in which running trials use no CPU, after which the user is warned
WARNING_INTERVAL_S = 600.0  # seconds between warnings
STALL_FACTOR = 10  # times the longest time between two evaluations so far, after which the user is warned


class RayLost(AutorankError):
    """Ray is gone: its processes have exited, or do not answer."""

    skip_exit_handlers = True


class RayWatch:
    """Checks Ray and the trials in a thread of its own while trials run.

    Time is counted in checks, so the time in which the search itself is stopped (SIGSTOP) does not count.

    Args:
        resources: What a trial needs.
        warn: Prints a warning.

    Attributes:
        lost: Why Ray is lost; None while it is not.
        packs: The actors that train trials in packs.
    """

    def __init__(self, resources: Resources, warn: Callable[[str], object]) -> None:
        self.lost: RayLost | None = None
        self.packs: Sequence[Any] = ()
        self._resources, self.warn = resources, warn
        self._closed = threading.Event()
        self._running: Collection[str] = ()  # Tune's ids of the trials that run
        self._with_workers: set[str] = set()  # those of them whose workers have started
        self._processes = TrialProcesses(psutil.Process())
        self._waiting = self._stuck = self._quiet = 0.0  # seconds without a running trial, working process, evaluation
        self._longest = NO_TRIAL_WARNING_S  # seconds between two evaluations
        self._head: str | None = None
        self._head_failures = 0
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._work, name="autorank-ray-watch", daemon=True)

    def __enter__(self) -> RayWatch:
        import ray

        if ray.is_initialized():  # in the thread these calls would start Ray if it has ended
            self._head = ray.get_runtime_context().gcs_address
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._thread.join(CHECK_INTERVAL_S)

    def on_step(self, running: Collection[str]) -> None:
        """Record a step of Tune's loop.

        Args:
            running: Tune's ids of the trials that run.
        """
        self._running = running
        if running and self._resources.workers == 1 and not self.packs:
            self._waiting = 0.0

    def on_evaluation(self) -> None:
        """Record an evaluation."""
        self._longest, self._quiet = max(self._longest, self._quiet), 0.0

    def _work(self) -> None:
        while not self._closed.wait(CHECK_INTERVAL_S):
            problem = self._local_problem() or self._head_problem() or self._stall()
            if problem is not None:
                self.lost = RayLost(
                    f"Ray ended unexpectedly: {problem}. Finished trials are kept; the same command continues the "
                    "search. See ray.log in its directory."
                )
                if not self._closed.wait(LOOP_EXIT_TIMEOUT_S):  # Tune's loop is stuck in a call to Ray
                    self.warn(str(self.lost))
                    self._interrupt()
                return

    def _interrupt(self) -> None:
        """Interrupt the main thread until it ends its work; the first interrupt is only a request."""
        logger.warning("stuck in\n%s", "".join(traceback.format_stack(sys._current_frames().get(self._main))))
        interrupt_main_thread()
        while not self._closed.wait(CHECK_INTERVAL_S):
            interrupt_main_thread()

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
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CHECK_INTERVAL_S):
                self._head_failures = 0
        except OSError as error:
            self._head_failures += 1
            if self._head_failures >= MAX_FAILED_HEAD_CHECKS:
                return f"its head at {host}:{port} does not answer ({error.strerror or error})"
        return None

    def _stall(self) -> str | None:
        """Warn if no trial progresses; return the reason if Ray is to blame."""
        if self._head is None:
            return None
        self._waiting, self._stuck, self._quiet = (
            seconds + CHECK_INTERVAL_S for seconds in (self._waiting, self._stuck, self._quiet)
        )
        if self._resources.workers > 1 and self._workers_have_started():
            self._waiting = 0.0
        if self.packs and self._running and bool(self._result(self._packs_have_started)):
            self._waiting = 0.0
        if self._waiting > NO_TRIAL_WARNING_S:
            self._waiting -= WARNING_INTERVAL_S
            return self._waiting_problem()
        if self._stuck >= IDLE_CPU_WARNING_S:
            reason = self._processes.stuck(self._stuck) if self._running else None
            self._stuck = 0.0 if reason is None else -WARNING_INTERVAL_S
            if reason is not None:
                self.warn(f"The trials have used no CPU for {IDLE_CPU_WARNING_S:.0f} seconds: {reason}.")
        elif self._quiet > STALL_FACTOR * self._longest:
            minutes, longest = (counted(max(1, round(time / 60)), "minute") for time in (self._quiet, self._longest))
            self.warn(
                f"No evaluation for {minutes}; until now the longest gap between evaluations was {longest}. See "
                "ray.log in the search's directory. Ctrl-C ends the search, and the same command continues it."
            )
            self.on_evaluation()
        return None

    def _waiting_problem(self) -> str | None:
        """Warn that no trial runs; return why Ray is lost if it is."""
        import ray

        state = self._result(lambda: ([node for node in ray.nodes() if node["Alive"]], ray.available_resources()))
        if state is None:
            return f"it has not answered for {RAY_CALL_TIMEOUT_S:.0f} seconds"
        nodes, free = state
        if not nodes:
            return "its node does not answer"
        reason = why_waiting([node["Resources"] for node in nodes], free, self._resources)
        self.warn(f"No trial has run for {NO_TRIAL_WARNING_S:.0f} seconds. {reason}")
        return None

    def _workers_have_started(self) -> bool:
        """Whether a running trial has its workers: for Tune it runs already while it waits for them."""
        for trial in set(self._running) - self._with_workers:
            if self._result(lambda trial=trial: placement_groups.is_stored(trial)):  # type: ignore[misc]
                self._with_workers.add(trial)
        return bool(self._with_workers & set(self._running))

    def _packs_have_started(self) -> bool:
        """Whether a pack has its resources: for Tune its trials run already while they wait for it."""
        import ray

        calls = [pack.answer.options(max_task_retries=-1).remote() for pack in self.packs]
        return bool(ray.wait(calls, timeout=CHECK_INTERVAL_S)[0])

    def _result(self, call: Callable[[], T]) -> T | None:
        """The result of a call to Ray, or None if it does not answer within `RAY_CALL_TIMEOUT_S` seconds."""
        results: list[T] = []

        def ask() -> None:
            try:
                results.append(call())
            except Exception:
                logger.warning("Ray does not answer", exc_info=True)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(RAY_CALL_TIMEOUT_S)
        return results[0] if results else None
