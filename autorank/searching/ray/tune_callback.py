"""Called in Tune's loop: reports progress, and ends the loop after a signal or a problem."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import ray
from ray import tune

from autorank.interruption import Handlers, leave_closed_terminal
from autorank.searching.ray import _compat
from autorank.searching.ray.actors.placement_groups import release
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.ray.ray_watch import RayWatch
from autorank.trials.snapshot import Snapshot

REFRESH_INTERVAL_S = 0.5  # seconds between refreshes

SnapshotListener = Callable[[Snapshot], object]


class Stopped(Exception):
    """Ends Tune's loop from within."""


class TuneCallback(tune.Callback):
    """Ends Tune's loop after a signal, a problem of the searcher or the loss of Ray.

    Args:
        searcher: The searcher.
        interrupt: Whether a signal has come.
        watch: Whether Ray is lost.
        refresh: Called twice a second.
    """

    def __init__(
        self,
        searcher: BaseSearcher,
        interrupt: Interrupt,
        watch: RayWatch,
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        self.stopped = False
        self.watch = watch
        self._searcher, self._interrupt, self._refresh = searcher, interrupt, refresh
        self._refreshed_at = 0.0
        self._alone: set[str] = set()  # methods that cannot be packed

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the loop if it must end, else report progress; called by Tune after each step of its loop."""
        if self.watch.lost is not None:
            self.stopped = True
            raise Stopped
        self.watch.on_step([trial.trial_id for trial in trials if trial.status == "RUNNING"])
        if self._interrupt.requested or self._searcher.problem:
            self.stopped = True
            for trial in trials:
                if actor := _compat.actor_of(trial):
                    ray.kill(actor)  # else Tune waits for it to end its epoch
                    release(trial.trial_id)
            raise Stopped
        if time.monotonic() - self._refreshed_at >= REFRESH_INTERVAL_S:
            self._refresh()
            self._refreshed_at = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an evaluation; called by Tune after each result.

        Args:
            iteration: Number of the loop's step.
            trials: All trials of Tune.
            trial: The trial.
            result: The result, which the searcher receives.
            **info: Further arguments of Tune.
        """
        self.watch.on_evaluation()
        method = trial.config["train"].method if "alone" in result else None
        if method is not None and method not in self._alone:
            self._alone.add(method)
            self.watch.warn(f"Trials of {method} are not batched with the others of their pack: {result['alone']}.")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see BaseSearcher


class Interrupt:
    """Within this context the first signal only sets `requested`; the next has its usual effect."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers = Handlers()

    def __enter__(self) -> Interrupt:
        self._handlers.set(self._request)
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        leave_closed_terminal()
        self.requested = True
        self._handlers.restore()
