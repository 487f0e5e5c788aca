"""The results of a study, read from the journals of its searches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from autorank.searching.confirm import pending
from autorank.spec import SearchSpec
from autorank.trials.front import non_dominated
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.point import Point
from autorank.trials.record import ended_trials
from autorank.trials.retention import search_folder
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.certainty import assess
from autorank.trials.statistics.retrained_scores import measured
from benchmarks.study.gains import Retrained
from benchmarks.study.settings import SEEDS, search_name


@dataclass(frozen=True)
class Result:
    """A search of the study.

    Attributes:
        method: The method, or the repeated search of the baseline.
        spec: The search.
        snapshot: Its trials and its front.
        max_params: The most adapter parameters of its space.
        pending: Number of missing scores with new seeds; more may follow, because seeds are chosen one at a time at the
            end.
    """

    method: str
    spec: SearchSpec
    snapshot: Snapshot
    max_params: float
    pending: int

    @cached_property
    def front(self) -> list[Retrained]:
        """The points of the front that were retrained."""
        samples = [(point, measured(point, self.snapshot)) for point in self.snapshot.points]
        return [Retrained(point, sample) for point, sample in samples if sample is not None]

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return len(ended_trials(self.snapshot.trials))

    def is_complete(self, trials: int) -> bool:
        """Whether all trials have ended and all points of the front were retrained with all seeds."""
        return (
            self.ended >= trials
            and not self.pending
            and len(self.snapshot.points) > 0
            and len(self.front) == len(self.snapshot.points)
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of all trials."""
        return sum(trial.step for trial in self.snapshot.trials)

    @property
    def seconds(self) -> float:
        """Training and evaluation time of all trials."""
        return sum(trial.seconds for trial in self.snapshot.trials)

    @property
    def best(self) -> Point:
        """The point with the best score in the search."""
        return max(self.snapshot.points, key=lambda point: point.score)

    @property
    def expected_drop(self) -> float | None:
        """By how much the best score is expected to drop, from the predictions of the search."""
        certainty = assess(self.snapshot)
        return None if certainty is None else certainty.expected_drop

    @property
    def drop(self) -> float:
        """By how much the best score dropped with new seeds, on the validation split."""
        best = self.best
        return best.score - next(entry.sample.mean for entry in self.front if entry.point.key == best.key)


def read(runs: Path, task: str, method: str) -> Result | None:
    """Read a search; None if it has not begun."""
    folder = search_folder(runs, search_name(task, method))
    if not (folder / JOURNAL).exists():
        return None
    journal = Journal.open(folder)
    return Result(method, journal.spec, journal.snapshot(), journal.reference[0], len(pending(journal, SEEDS)))


def common_front(results: list[Result]) -> list[tuple[Result, Retrained]]:
    """The points that no point of another search dominates, by the scores of the searches, by rising parameters."""
    entries = [(result, entry) for result in results for entry in result.front]
    front_ids = {id(point) for point in non_dominated([entry.point for _, entry in entries])}
    return sorted(
        [(result, entry) for result, entry in entries if id(entry.point) in front_ids],
        key=lambda pair: pair[1].point.adapter_params,
    )
