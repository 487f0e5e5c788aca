"""How far a search is, how fast it goes, and what is left of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from autorank.reporting.tables import duration
from autorank.trials.front import hypervolume
from autorank.trials.snapshot import Snapshot


@dataclass(frozen=True)
class Standing:
    """A search at a moment. None: not known yet.

    Attributes:
        ended, wanted: trials.
        states: how many ended otherwise than complete: `1 pruned`.
        steps_per_second: of all trials together, since this session began.
        passed, left: seconds.
    """

    ended: int
    wanted: int
    states: list[str]
    on_front: int
    best: float | None
    hypervolume: float | None
    steps_per_second: float | None
    passed: float
    left: float | None

    @property
    def result(self) -> list[str]:
        """What was found, in words."""
        found = [f"{self.on_front} on the front"]
        found += [] if self.best is None else [f"best {self.best:.4f}"]
        return found + ([] if self.hypervolume is None else [f"hypervolume {self.hypervolume:.4f}"])

    @property
    def pace(self) -> list[str]:
        """How fast it goes, in words."""
        words = [] if self.steps_per_second is None else [f"{self.steps_per_second:.3g} steps/s"]
        words.append(f"{duration(self.passed)} so far")
        return words + ([] if self.left is None or self.ended == self.wanted else [f"about {duration(self.left)} left"])


class Pace:
    """Measures a search from now on.

    Args:
        budget: seconds; None: as long as it takes.
        clock: seconds, in which trials' ends are given too.
    """

    def __init__(self, budget: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self._budget, self._clock = budget, clock
        self._began = clock()
        self._first: tuple[float, int] | None = None  # when the first trial was at work, and steps made by then
        self._last: tuple[float, int] | None = None  # when steps were last added, and how many there are

    def __call__(self, snapshot: Snapshot) -> Standing:
        """Where the search stands."""
        done = [trial for trial in snapshot.trials if trial.state != "running"]
        states = Counter(trial.state for trial in done)
        points = snapshot.points
        return Standing(
            len(done), snapshot.wanted,
            [f"{states[state]} {state}" for state in ("pruned", "failed") if states[state]],
            len(points), max((point.score for point in points), default=None),
            hypervolume(points, snapshot.reference) if points and snapshot.reference else None,
            self._rate(snapshot), self._clock() - self._began, self._left(snapshot),
        )  # fmt: skip

    def _rate(self, snapshot: Snapshot) -> float | None:
        """Steps per second up to the last evaluation: between evaluations nobody knows."""
        now, steps = self._clock(), sum(trial.step for trial in snapshot.trials)
        if self._first is None:
            if all(trial.state != "running" for trial in snapshot.trials):
                return None
            self._first = self._last = (now, steps)
        if self._last is None or steps > self._last[1]:
            self._last = (now, steps)
        passed = self._last[0] - self._first[0]
        return (self._last[1] - self._first[1]) / passed if passed > 0 else None

    def _left(self, snapshot: Snapshot) -> float | None:
        """Seconds: what remains of the trials at the pace of those that ended since the start, or of the budget."""
        passed = self._clock() - self._began
        done = [trial for trial in snapshot.trials if trial.state != "running"]
        recent = [trial for trial in done if trial.ended > self._began]
        guesses = [] if self._budget is None else [max(0.0, self._budget - passed)]
        if recent:
            guesses.append((snapshot.wanted - len(done)) * passed / len(recent))
        return max(0.0, min(guesses)) if guesses else None
