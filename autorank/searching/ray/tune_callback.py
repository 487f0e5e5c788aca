"""What looks on while Tune's loop runs: lets others know, ends the loop on Ctrl-C or a problem."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import ray
from ray import tune

from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.ray.placement_groups import free
from autorank.trials.snapshot import Snapshot

REFRESH = 0.5  # seconds between looks

Progress = Callable[[Snapshot], object]


class Stopped(Exception):
    """Ends Tune's loop from within."""


class TuneCallback(tune.Callback):
    """Called in Tune's loop: ends it on Ctrl-C or a problem of the searcher; calls `look` twice a second."""

    def __init__(self, searcher: BaseSearcher, interrupt: Interrupt, look: Callable[[], object] = lambda: None) -> None:
        self.stopped = False
        self._searcher, self._interrupt, self._look = searcher, interrupt, look
        self._looked = 0.0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._interrupt.requested or self._searcher.problem:
            self.stopped = True
            for trial in trials:
                if actor := trial.temporary_state.ray_actor:
                    ray.kill(actor)  # else Tune waits for it to end its epoch
                    free(trial.trial_id)
            raise Stopped
        if time.monotonic() - self._looked >= REFRESH:
            self._look()
            self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see BaseSearcher


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
