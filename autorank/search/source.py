"""What Tune's loop asks of whoever hands out its trials."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher


@dataclass(frozen=True)
class Death:
    """Why a trial's process died. `preempted`: its node went away, which is no fault of the trial."""

    reason: str
    preempted: bool = False


class TrialSource(Searcher):
    """A searcher that keeps its state elsewhere (in the journal) and its errors to itself, for Tune hides some.

    Attributes:
        problem: what went wrong in here; it ends the session.
        deaths: Tune's id -> why a trial's process died; the scheduler leaves them here.
    """

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.deaths: dict[str, Death] = {}
        self._deadline = deadline

    @property
    def out_of_time(self) -> bool:
        """Whether `time.monotonic()` is past the deadline."""
        return time.monotonic() >= self._deadline

    def wanted(self) -> bool:
        """Whether there is anything to hand out."""
        raise NotImplementedError

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial goes on after this result."""
        return not self.out_of_time

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we do not use; a journal is no value
