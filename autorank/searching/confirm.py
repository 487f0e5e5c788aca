"""Retrains the points of a front with new seeds, each up to the step of its evaluation.

Every run gets a few seeds; the others go to points that may or may not belong to the front.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import deque
from collections.abc import Collection, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

from autorank.defaults import MAX_RETRIES
from autorank.errors import raise_if_disk_full
from autorank.searching.confirmation_seeds import MAX_FACTOR, equal_seeds, next_training
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.retry_policy import Death
from autorank.spec import TrainSpec
from autorank.tasks.metrics.outcomes import pack, unpack
from autorank.trials.journal.journal import Journal
from autorank.trials.point import Point, points_of
from autorank.trials.retention import delete_other_runs, remove
from autorank.trials.snapshot import ConfirmationKey, Snapshot
from autorank.trials.statistics.confirmation_stats import contested

logger = logging.getLogger(__name__)

FOLDER = "confirm"  # directory of the checkpoints, in the search's directory


class Retraining(NamedTuple):
    """The run of one or more points of a front, repeated with another seed."""

    trial: int
    step: int
    seed: int

    def __str__(self) -> str:
        return f"{self.trial}-{self.step}-{self.seed}"


class ConfirmSearcher(BaseSearcher):
    """Tune's searcher for missing confirmations: every point of the fronts, including the baseline's.

    The number of seeds of a run is at most `seeds` on average.

    All points of an evaluation, the adapter and its slices, share a run for each seed: the adapter is cut to the size
    of each slice, or to the next smaller size.

    Runs train on the search's data and are scored on the task's own validation split. `RetryPolicy` decides which are
    retried.

    Args:
        journal: The journal of the search, open for writing.
        seeds: Number of seeds.
        folder: Directory of the checkpoints, which are deleted when a run ends.
        deadline: `time.monotonic()` after which no run starts or continues; the results of stopped runs are not stored.
        retries: How often a run whose process died is retried.
    """

    def __init__(
        self, journal: Journal, seeds: int, folder: Path, deadline: float = math.inf, retries: int = MAX_RETRIES
    ) -> None:
        super().__init__(deadline, retries)
        self._journal, self._seeds, self._folder = journal, seeds, folder
        self._running: dict[str, Retraining] = {}
        self._reached: dict[Retraining, int] = {}  # step of the last evaluation
        self._points: dict[Retraining, list[Point]] = {}
        self._left: deque[Retraining] = deque()
        self._outdated = True  # whether there are results since the next training was last chosen

    @override
    def plan(self) -> None:
        """Plan the next trainings if none are left; the first call also deletes checkpoints that are not needed."""
        if not self._points:
            delete_other_runs(self._folder, _resumable(self._journal, self._seeds))  # which a killed session has left
        # the next trainings depend on the results of the last ones
        if not self._left and self._outdated:
            self._outdated = False
            self._add(trainings(self._journal, self._seeds, set(self._points)))

    def has_work(self) -> bool:
        """Return whether trainings are planned and there is time left."""
        return bool(self._left) and not self.out_of_time

    def _add(self, points: dict[Retraining, list[Point]]) -> None:
        self._outdated |= bool(points)
        self._points |= points
        self._left.extend(points)
        for repeat in points:
            self._retry.restore(repeat, 0, self._journal.trial(repeat.trial).reduced_micro_batch)

    @override
    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        self.plan()
        if not self.has_work() or self.problem:
            return self._wait_or_finish()
        if self._must_wait(self._left[0]):
            return None
        repeat = self._running[trial_id] = self._left.popleft()
        return {
            "number": str(repeat),
            "train": self._retry.reduced(repeat, self._train(repeat)),
            "recorded": 0,
            "until": repeat.step,
            "sizes": [point.adapter_params for point in self._points[repeat] if point.component_masks is not None],
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store how far the run is; only its last evaluation is a result."""
        if "evaluation" in result and trial_id in self._running:
            self._reached[self._running[trial_id]] = result["evaluation"].step
            self.on_progress()

    @override
    def _ended(self, run: Retraining, result: dict[str, Any], death: Death | None) -> None:
        memory = bool(result.get("out_of_memory"))
        if self._retry.retry(run, self._reached.get(run, 0), self._train(run), death, memory):
            self._left.append(run)
        elif death or "failed" in result or result.get("finished"):
            self._store(run, result, death)

    def _train(self, repeat: Retraining) -> TrainSpec:
        trial = self._journal.trial(repeat.trial)
        train = self._journal.spec.train(trial.method, trial.settings)
        return train.changed(task={"final": True}, training={"seed": repeat.seed, "slices": "off"})

    def _store(self, repeat: Retraining, result: dict[str, Any], death: Death | None) -> None:
        self._outdated = True
        if death or "evaluation" not in result:
            reason = death.reason if death else result.get("failed", "stopped")
            raise_if_disk_full(reason)
            logger.error("trial %d, step %d, seed %d could not be confirmed: %s", *repeat, reason)
            for point in self._points[repeat]:
                self._journal.confirm(*point.key, repeat.seed, {"failed": reason})
        else:
            evaluation = result["evaluation"]
            models = points_of(self._journal.trial(repeat.trial), evaluation)
            packed = [pack([model]) for model in unpack(evaluation.predictions)] if evaluation.predictions else []
            cut = count(1)
            for point in self._points[repeat]:
                index = 0 if point.component_masks is None else next(cut)
                predictions = packed[index] if packed else b""
                self._journal.confirm(*point.key, repeat.seed, _outcome(models[index]), predictions)
        remove(self._folder / "trials" / str(repeat))


def trainings(journal: Journal, seeds: int, started: Collection[Retraining] = ()) -> dict[Retraining, list[Point]]:
    """Return the trainings to repeat now, and the points that each of them confirms.

    At first all trainings get the same number of seeds; later `confirmation_seeds.next_training` chooses one at a time.
    Failed trainings are tried again.

    Args:
        journal: The search.
        seeds: Mean number of seeds.
        started: Trainings of this session, which are not repeated.

    Returns:
        Training -> its points.
    """
    snapshot = journal.snapshot()
    missing: dict[Retraining, list[Point]] = {}
    waiting = False
    points_of_trainings = _points_of_trainings(snapshot)
    first_seeds = {
        training: list(islice(seeds_of(journal, *training), equal_seeds(seeds))) for training in points_of_trainings
    }
    for index in range(equal_seeds(seeds)):
        for training, points in points_of_trainings.items():
            seed = first_seeds[training][index]
            for point in points:
                result, repeat = snapshot.confirmed.get((*point.key, seed)), Retraining(*training, seed)
                waiting |= result is None
                if "score" not in (result or {}) and repeat not in started:
                    missing.setdefault(repeat, []).append(point)
    if missing or waiting:
        return missing
    return _contested_training(journal, snapshot, points_of_trainings, seeds, started)


def _contested_training(
    journal: Journal, snapshot: Snapshot, points: dict[tuple[int, int], list[Point]], seeds: int,
    started: Collection[Retraining],
) -> dict[Retraining, list[Point]]:  # fmt: skip
    """The training that `next_training` chooses, with its points; empty if it chooses none."""
    used = {(trial, step): _confirmed_seeds(snapshot, trial, step)
            | {repeat.seed for repeat in started if repeat[:2] == (trial, step)} for trial, step in points}  # fmt: skip
    open_points = contested(snapshot.points, snapshot) | contested(snapshot.baseline, snapshot)
    weights = {training: sum(open_points.get(point.key, 0.0) for point in points[training]) for training in points}
    training = next_training({training: len(used[training]) for training in points}, weights, seeds)
    if training is None:
        return {}
    seed = next(seed for seed in seeds_of(journal, *training) if seed not in used[training])
    return {Retraining(*training, seed): points[training]}


def _points_of_trainings(snapshot: Snapshot) -> dict[tuple[int, int], list[Point]]:
    """The points of both fronts by trial and step."""
    points: dict[tuple[int, int], list[Point]] = {}
    for point in (*snapshot.points, *snapshot.baseline):
        points.setdefault((point.trial, point.step), []).append(point)
    return points


def _confirmed_seeds(snapshot: Snapshot, trial: int, step: int) -> set[int]:
    return {seed for *key, seed in snapshot.confirmed if key[:2] == [trial, step]}


def _resumable(journal: Journal, seeds: int) -> set[str]:
    """The names of all trainings that the fronts may still need; their checkpoints are kept."""
    snapshot = journal.snapshot()
    done = {(trial, step, seed) for (trial, step, _, seed), result in snapshot.confirmed.items() if "score" in result}
    repeats = (
        Retraining(*training, seed)
        for training in _points_of_trainings(snapshot)
        for seed in islice(seeds_of(journal, *training), MAX_FACTOR * seeds)
    )
    return {str(repeat) for repeat in repeats if repeat not in done}


def pending(journal: Journal, seeds: int) -> list[ConfirmationKey]:
    """Return the missing confirmations: trial, step, parameters, seed."""
    return [(*point.key, repeat.seed) for repeat, points in trainings(journal, seeds).items() for point in points]


def seeds_of(journal: Journal, trial: int, step: int) -> Iterator[int]:
    """Seeds with which a training is repeated: those that it was repeated with, then new ones.

    New seeds are hashes, so that they differ between trainings, and from the seed of the search (ours). A seed decides
    the order of the examples and the first weights of the head, so an unlucky one can fail with many settings. If all
    trainings shared their seeds, deviations of points would not be independent, as the intervals of
    `retrained_scores` assume.

    Args:
        journal: The search.
        trial: Number of the trial.
        step: Step of the evaluation.

    Returns:
        An iterator without end.
    """
    confirmed = _confirmed_seeds(journal.snapshot(), trial, step)
    excluded = confirmed | {journal.spec.training.seed}
    new = (_seed(trial, step, number) for number in count())
    return chain(sorted(confirmed), (seed for seed in new if seed not in excluded))


def _seed(trial: int, step: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{trial}:{step}:{number}".encode()).digest()[:4])


def _outcome(point: Point) -> dict[str, Any]:
    """The values of a retrained point that the journal stores."""
    names = ("score", "metrics", "adapter_params", "nonzero_params", "seconds", "memory")
    return {name: getattr(point, name) for name in names}
