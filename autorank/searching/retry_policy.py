"""Retries of runs whose process died or that ran out of memory: trials, confirmations and recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from autorank.spec import TrainSpec

HALVINGS = 3  # how often the micro-batch of a run is halved before it fails (ours)


@dataclass(frozen=True)
class Death:
    """Why a trial's process died.

    Attributes:
        reason: One line.
        preempted: Whether its node was lost.
        storage_missing: Whether its node could not access the search's directory.
        shared: Whether other runs shared the process, one of which may have caused the death.
    """

    reason: str
    preempted: bool = False
    storage_missing: bool = False
    shared: bool = False


class RetryPolicy:
    """Decides whether a run is tried again, from its last evaluation.

    A run whose process died is tried again up to `retries` times. A death does not count if the node could not access
    the search's directory. The loss of a node does not count either, unless the run made no progress since its last
    death, because the run itself may bring its nodes down. A run that ran out of memory is tried again with half the
    micro-batch, up to 3 times, and alone, because other runs may have used the memory. Likewise a run is tried again
    alone if a process that it shared died twice without progress, because another run may bring it down.

    Args:
        retries: How often a run is tried again after its process died.
    """

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self._deaths: Counter[Hashable] = Counter()
        self._halvings: Counter[Hashable] = Counter()
        self._step_at_death: dict[Hashable, int] = {}
        self._suspects: set[Hashable] = set()  # runs that may have brought down a process with other runs

    def restore(self, run: Hashable, deaths: int, halvings: int) -> None:
        """Restore the counts of an earlier session.

        Args:
            run: The run.
            deaths: Number of deaths that count.
            halvings: How often its micro-batch was halved.
        """
        self._deaths[run], self._halvings[run] = deaths, halvings

    def deaths(self, run: Hashable) -> int:
        """Return the number of deaths that count."""
        return self._deaths[run]

    def halvings(self, run: Hashable) -> int:
        """Return how often the run's micro-batches were halved."""
        return self._halvings[run]

    def alone(self, run: Hashable) -> bool:
        """Return whether the run must have the machine to itself."""
        return self._halvings[run] > 0 or run in self._suspects

    def retry(
        self, run: Hashable, step: int, train: TrainSpec, death: Death | None, out_of_memory: bool = False
    ) -> bool:  # fmt: skip
        """Count a run that ended early, and decide whether it is retried.

        Args:
            run: The run.
            step: Step of its last evaluation.
            train: Its original specification.
            death: Why its process died; None if it did not.
            out_of_memory: Whether the run ran out of memory.

        Returns:
            Whether the run is retried.
        """
        if death is None:
            return out_of_memory and self._halve(run, train)
        before, self._step_at_death[run] = self._step_at_death.get(run, -1), step
        counts = not (death.storage_missing or (death.preempted and before < step))
        self._deaths[run] += counts
        if counts and death.shared:
            self._suspects.add(run)
        return death.storage_missing or self._deaths[run] <= self.retries

    def _halve(self, run: Hashable, train: TrainSpec) -> bool:
        more = self._halvings[run] + 1
        automatic = train.training.accumulate == "auto"  # then the run itself halves its measured size
        if more > HALVINGS or (not automatic and _micro_batches(train, more) == _micro_batches(train, more - 1)):
            return False
        self._halvings[run] = more
        return True

    def reduced(self, run: Hashable, train: TrainSpec) -> TrainSpec:
        """Return the specification with the micro-batch that was decided for the run."""
        accumulate = _micro_batches(train, self._halvings[run])
        return train.changed(training={"accumulate": accumulate})


def _micro_batches(train: TrainSpec, halvings: int) -> int | str:
    """Micro-batches of a step after some halvings.

    All have the same size, at most half of the previous one; if there is no smaller size, nothing changes.
    """
    batch, accumulate = train.training.batch_size, train.training.accumulate
    for _ in range(halvings):
        if accumulate == "auto":
            return accumulate
        if batch is None:
            accumulate *= 2
        else:
            divisors = (parts for parts in range(2 * accumulate, batch + 1) if batch % parts == 0)
            accumulate = next(divisors, accumulate)
    return accumulate
