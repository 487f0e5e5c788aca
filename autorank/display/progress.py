"""Progress of a search: trials, speed, remaining time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from autorank.reporting.tables import duration, origins
from autorank.trials.record import ended_trials
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.forecast import Forecast, forecast


@dataclass(frozen=True)
class Progress:
    """Progress of a search at one moment. None: not known yet.

    Attributes:
        ended: Number of trials that ended.
        requested: Number of trials in total.
        states: Counts of trials that ended, but not as complete: `1 pruned`.
        front: Number of points on the front, and of the trials that they come from, in words.
        best: Best score.
        hypervolume: Hypervolume of the front.
        forecast: Expected gain of the remaining trials.
        steps_per_second: Optimizer steps per second of all trials together, in this session.
        passed: Seconds since the session began.
        left: Estimated remaining seconds.
    """

    ended: int
    requested: int
    states: list[str]
    front: str
    best: float | None
    hypervolume: float | None
    forecast: Forecast | None
    steps_per_second: float | None
    passed: float
    left: float | None

    @property
    def result(self) -> list[str]:
        """The results, in words."""
        words = [f"{self.front} on the front"]
        words += [] if self.best is None else [f"best {self.best:.4f}"]
        words += [] if self.hypervolume is None else [f"hypervolume {self.hypervolume:.4f}"]
        return words + ([] if self.forecast is None else [str(self.forecast)])

    @property
    def pace(self) -> list[str]:
        """Speed and time, in words."""
        words = [] if self.steps_per_second is None else [f"{self.steps_per_second:.3g} steps/s"]
        words.append(f"{duration(self.passed)} so far")
        return words + (
            [] if self.left is None or self.ended == self.requested else [f"about {duration(self.left)} left"]
        )


class Pace:
    """Measures the progress of a search from now on.

    Args:
        budget: Time budget in seconds, or None.
        clock: Returns the time in seconds since the epoch, as in the records of trials.
    """

    def __init__(self, budget: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self._budget, self._clock = budget, clock
        self._began = clock()
        self._forecast: tuple[int, Forecast | None] = (0, None)  # number of ended trials, and the forecast then
        self._first: tuple[float, int] | None = None  # time at which the first trial ran, and its number of steps
        self._last: tuple[float, int] | None = None  # time of the latest evaluation, and the number of steps

    def __call__(self, snapshot: Snapshot) -> Progress:
        """Return the progress of the search."""
        ended = ended_trials(snapshot.trials)
        states = Counter(trial.state for trial in ended)
        points = snapshot.points
        return Progress(
            len(ended), snapshot.requested,
            [f"{states[state]} {state}" for state in ("pruned", "failed") if states[state]],
            origins(points), max((point.score for point in points), default=None),
            snapshot.hypervolume if points else None,
            self._updated_forecast(snapshot, len(ended)),
            self._rate(snapshot), self._clock() - self._began, self._remaining_seconds(snapshot),
        )  # fmt: skip

    def _updated_forecast(self, snapshot: Snapshot, ended: int) -> Forecast | None:
        new = ended - self._forecast[0]
        # after every further 1% of the trials, since a forecast reads all of them, and at the end
        if new < 0 or new >= max(1, ended // 100) or (new and ended >= snapshot.requested):
            remaining = snapshot.requested - ended
            self._forecast = ended, forecast(snapshot, remaining)
        return self._forecast[1]

    def _rate(self, snapshot: Snapshot) -> float | None:
        """Steps per second up to the last evaluation; between evaluations the number of steps is unknown."""
        now, steps = self._clock(), sum(trial.step for trial in snapshot.trials)
        if self._first is None:
            if not any(trial.is_running for trial in snapshot.trials):
                return None
            self._first = self._last = (now, steps)
        if self._last is None or steps > self._last[1]:
            self._last = (now, steps)
        passed = self._last[0] - self._first[0]
        return (self._last[1] - self._first[1]) / passed if passed > 0 else None

    def _remaining_seconds(self, snapshot: Snapshot) -> float | None:
        """Remaining seconds: of the budget, or of the trials at the pace of this session, whichever is less."""
        passed = self._clock() - self._began
        done = ended_trials(snapshot.trials)
        recent = [trial for trial in done if trial.ended > self._began]
        estimates = [] if self._budget is None else [max(0.0, self._budget - passed)]
        if recent:
            estimates.append((snapshot.requested - len(done)) * passed / len(recent))
        return max(0.0, min(estimates)) if estimates else None
