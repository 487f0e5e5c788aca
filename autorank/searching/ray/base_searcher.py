"""Base class of the searchers that propose runs to Tune: trials, confirmations, rows of recipes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Hashable
from typing import Any

from ray.tune.search import Searcher
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.searching.retry_policy import Death, RetryPolicy


class BaseSearcher(Searcher):
    """A searcher whose state is in the journal. It stores its errors in `problem`, because Tune hides some of them.

    A subclass chooses the runs (`_next`), stores their evaluations (`on_trial_result`) and how they end (`_ended`).

    A node that cannot access the directory of a search ends its trials within seconds. It then has free resources and
    gets the next trial. So after more than `retries` such deaths in a row no run starts until a running one reports an
    evaluation or ends. If no run is running, the session ends.

    Args:
        deadline: `time.monotonic()` after which no run starts or continues.
        retries: How often a run whose process died is retried.

    Attributes:
        problem: An error of the searcher, which ends the session.
        deaths: Tune's id -> why the trial's process died; written by `Scheduler`.
        shares_devices: Whether several trials share a GPU or a process, so that one may fail because of others.
    """

    def __init__(self, deadline: float, retries: int) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.deaths: dict[str, Death] = {}
        self.shares_devices = True
        self._deadline, self._retry = deadline, RetryPolicy(retries)
        self._running: dict[str, Any] = {}  # Tune's id -> the running run, which is hashable
        self._storage_missing = 0  # successive deaths because the search's directory could not be accessed

    @property
    def out_of_time(self) -> bool:
        """Whether `time.monotonic()` is past the deadline."""
        return time.monotonic() >= self._deadline

    @property
    def paused(self) -> bool:
        """Whether no run may start until a running one reports."""
        return self._storage_missing > self._retry.retries and bool(self._running)

    @override
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the next run as `WarmTrial` expects it, FINISHED, or None: ask again later."""
        try:
            return None if self._must_wait() else self._next(trial_id)
        except Exception as error:
            self.problem = error
            return self.FINISHED

    @abstractmethod
    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run, which is added to `_running`; or what `_wait_or_finish` returns, or None."""

    @override
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Store how a run ended, or retry it. Tune passes the last result only here."""
        self.on_trial_result(trial_id, result or {})
        run = self._running.pop(trial_id, None)
        if run is None or self.problem:
            return
        death = self.deaths.pop(trial_id, Death("its process died")) if error else None
        try:
            self.on_progress(death)  # if it raises, the run continues when the search is resumed
            self._ended(run, result or {}, death)
        except Exception as problem:
            self.problem = problem

    @abstractmethod
    def _ended(self, run: Any, result: dict[str, Any], death: Death | None) -> None:
        """Store the result of a run, or why it has none, or retry it.

        Args:
            run: The run, no longer in `_running`.
            result: The last result of its trial.
            death: Why its process died; None if it did not.
        """

    def on_progress(self, death: Death | None = None) -> None:
        """Record that a run has reported an evaluation or has ended.

        Args:
            death: Why the run's process died; None if it did not.

        Raises:
            AutorankError: Too many nodes in a row could not access the search's directory, and no run is running.
        """
        self._storage_missing = self._storage_missing + 1 if death and death.storage_missing else 0
        if death and self._storage_missing > self._retry.retries and not self._running:
            raise AutorankError(death.reason)

    def _must_wait(self, run: Hashable | None = None) -> bool:
        """Whether no run, or not this one, may start now.

        If trials share a GPU or a process, a run that ran out of memory, or may have crashed it, is repeated alone.
        """
        if not self.shares_devices:
            return self.paused
        if self.paused or any(self._retry.alone(other) for other in self._running.values()):
            return True
        return run is not None and self._retry.alone(run) and bool(self._running)

    def _wait_or_finish(self) -> str | None:
        """The answer to Tune if no run can start: None (ask again, a running one may be retried) or FINISHED."""
        return None if self._running and not self.problem and not self.out_of_time else self.FINISHED

    def plan(self) -> None:
        """Choose the next runs, if the results so far decide which they are."""

    @abstractmethod
    def has_work(self) -> bool:
        """Return whether runs are left to start."""

    def should_stop(self, trial_id: str) -> bool:
        """Return whether a trial stops after its last recorded result."""
        return self.out_of_time

    def save(self, checkpoint_path: str) -> None:
        """Do nothing, because the state is in the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, because the state is in the journal."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher to restore it, which autorank does not use; a journal cannot be pickled
