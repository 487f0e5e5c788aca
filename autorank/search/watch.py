"""What looks on while Tune's loop runs: hands the records on, ends the loop on Ctrl-C or a problem."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import ray
from ray import tune

from autorank.results.archive import Snapshot
from autorank.results.journal import Journal
from autorank.search.source import TrialSource

REFRESH = 0.5  # seconds between looks

Progress = Callable[[Snapshot], object]


class Stopped(Exception):
    """Ends Tune's loop from within."""


class Watch(tune.Callback):
    """Called in Tune's loop: hands the records on, ends the loop on Ctrl-C or a problem of the searcher."""

    def __init__(
        self,
        journal: Journal,
        searcher: TrialSource,
        interrupt: Interrupt,
        listeners: Sequence[Progress],
    ) -> None:
        self.stopped = False
        self._journal, self._searcher, self._interrupt = journal, searcher, interrupt
        self._listeners = listeners
        self._shown = 0.0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._interrupt.requested or self._searcher.problem:
            self.stopped = True
            for trial in trials:
                if actor := trial.temporary_state.ray_actor:
                    ray.kill(actor)  # else Tune waits for it to end its epoch
            raise Stopped
        if time.monotonic() - self._shown >= REFRESH and self._listeners:
            snapshot = self._journal.snapshot()
            for listener in self._listeners:
                listener(snapshot)
            self._shown = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see TrialSource


class Interrupt:
    """Within it the first Ctrl-C (or SIGTERM) only sets `requested`; the next has its usual effect."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM):
                self._before[kind] = signal.signal(kind, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _request(self, kind: int, frame: FrameType | None) -> None:
        self.requested = True
        for each, handler in self._before.items():
            signal.signal(each, handler)
