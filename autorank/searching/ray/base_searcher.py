"""What Tune's loop asks of whoever hands out its trials."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.retry_policy import Death, RetryPolicy


class BaseSearcher(Searcher):
    """A searcher that keeps its state elsewhere (in the journal) and its errors to itself, for Tune hides some.

    A node that does not see the folder of a search ends its trials in seconds, is then the one with free room, and gets
    the next. So after `retries` such deaths in a row none starts until one at work tells of itself; and where none is
    at work, that is the end.

    Attributes:
        problem: what went wrong in here; it ends the session.
        deaths: Tune's id -> why a trial's process died; the scheduler leaves them here.
        shares_gpus: whether several trials train on one GPU, so that one may run out of memory because of others.
    """

    def __init__(self, deadline: float, retries: int) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.deaths: dict[str, Death] = {}
        self.shares_gpus = True
        self._deadline, self._retry = deadline, RetryPolicy(retries)
        self._running: dict[str, Any] = {}  # Tune's id -> the run at work under it
        self._storage_missing = 0  # deaths of that kind since anything else was heard of

    @property
    def out_of_time(self) -> bool:
        """Whether `time.monotonic()` is past the deadline."""
        return time.monotonic() >= self._deadline

    @property
    def paused(self) -> bool:
        """Whether nothing may start before one at work has told of itself."""
        return self._storage_missing > self._retry.retries and bool(self._running)

    def on_progress(self, death: Death | None = None) -> None:
        """One at work has evaluated or, no longer among them, ended.

        Raises:
            AutorankError: by a death for missing storage, one too many, and none is at work.
        """
        self._storage_missing = self._storage_missing + 1 if death and death.storage_missing else 0
        if death and self._storage_missing > self._retry.retries and not self._running:
            raise AutorankError(death.reason)

    def _must_wait(self, run: Hashable | None = None) -> bool:
        """Whether nothing may start now; with `run`: whether it may not.

        A run that ran out of memory has the machine to itself if trials share GPUs.
        """
        if not self.shares_gpus:
            return self.paused
        if self.paused or any(self._retry.alone(other) for other in self._running.values()):
            return True
        return run is not None and self._retry.alone(run) and bool(self._running)

    def wanted(self) -> bool:
        """Whether there is anything to hand out."""
        raise NotImplementedError

    def should_stop(self, trial_id: str) -> bool:
        """Return whether a trial stops after its last recorded result."""
        return self.out_of_time

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we do not use; a journal is no value
