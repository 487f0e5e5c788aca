"""Searches in virtual time: recorded curves are replayed where trials would train.

Searcher, scheduler and journal are the real ones, driven as Tune drives them (`TuneController` of ray 2.60); only time
and training are not. So samplers and schedulers are compared on hundreds of searches: see benchmarks/search.py.
"""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from optuna.storages.journal import BaseJournalBackend
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.spec import SearchSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.front import EVERYTHING, hypervolume, non_dominated
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.study_metadata import write_study
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.record import TrialRecord
from benchmarks.simulation.curves import Curves, Replay


class Memory(BaseJournalBackend):
    """A journal's lines in memory."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lines += logs


def journal(spec: SearchSpec, reference: tuple[float, float]) -> Journal:
    """A new search's journal, on no disk."""
    backend = Memory()
    write_study(backend, spec, reference)
    return Journal(backend, Path(spec.name))


class Progress(NamedTuple):
    """What a search has come to."""

    cost: float  # of training and evaluating, by all its trials, in training steps
    hypervolume: float  # of the front of all evaluations and their slices


class Trial:
    """A trial at work: as much of Tune's as schedulers look at, and its next result, which costs `cost` steps."""

    def __init__(self, trial_id: str, run: Replay) -> None:
        self.trial_id, self.run, self._count = trial_id, run, 0

    def train(self) -> None:
        """Fetch the next result: what `WarmTrial` reports, and flat numbers for searchers that go by names."""
        before = self.run.cost
        self._count += 1
        self.result: dict[str, Any] = {"training_iteration": self._count}
        try:
            evaluation = next(self.run)
        except AutorankError as error:
            self.result |= {"failed": str(error), "traceback": "", "done": True}
        else:
            last = self.run.step == self.run.total_steps
            numbers = {"adapter_params": evaluation.adapter_params, "score": evaluation.score}
            self.result |= {"evaluation": evaluation, "finished": last, "done": last, **numbers}
        self.cost = self.run.cost - before


def simulate(
    searcher: Searcher, scheduler: Any, curves: Curves, workers: int, budget: float, last: bool = False,
    sliced: bool = True,
) -> list[Progress]:  # fmt: skip
    """One search, until its trials have cost `budget` training steps in all or the searcher has nothing more.

    A training step takes a unit of time, an evaluation `curves.evaluation_cost`, and as much for each slice.

    Args:
        searcher: suggests settings, or what `JournalSearcher` hands out.
        scheduler: one of Tune's; asked about every evaluation of a trial but its last. There is no controller to it.
        workers: trials at once.
        budget: in training steps.
        last: the front is of trials' last evaluations alone, which is what Ray's results and Optuna's study hold.
        sliced: evaluations come with their slices.

    Returns:
        A line whenever the front grew, the first at no cost, and one at the end.
    """
    front: list[Point] = []
    history = [Progress(0.0, 0.0)]
    names = (f"trial-{number}" for number in itertools.count())
    order = itertools.count()
    due: list[tuple[float, int, Trial]] = []  # (when the next result is there, order, trial)
    now = spent = 0.0

    def go_on(trial: Trial) -> None:
        trial.train()
        heapq.heappush(due, (now + trial.cost, next(order), trial))

    while spent < budget:
        while len(due) < workers and isinstance(suggested := searcher.suggest(name := next(names)), dict):
            settings = suggested["train"].settings if "train" in suggested else suggested
            trial = Trial(name, curves.run(settings, sliced))
            scheduler.on_trial_add(None, trial)
            go_on(trial)
        if not due:
            break
        now, _, trial = heapq.heappop(due)
        spent += trial.cost
        result = trial.result
        if not result["done"] and scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            searcher.on_trial_result(trial.trial_id, result)
            go_on(trial)
        else:
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
        if "evaluation" in result and (result["done"] or not last) and (grown := _grown(front, result["evaluation"])):
            front = grown
            history.append(Progress(spent, hypervolume(front, curves.reference)))
    if problem := getattr(searcher, "problem", None):
        raise problem
    return [*history, Progress(spent, history[-1].hypervolume)]


def _grown(front: list[Point], evaluation: Evaluation) -> list[Point]:
    """The front with an evaluation and its slices; empty if none of them is one of its points."""
    new = [
        point
        for point in points_of(TrialRecord(0, "", {}), evaluation)
        if admitted(point, EVERYTHING)
        and not any(old.adapter_params <= point.adapter_params and old.score >= point.score for old in front)
    ]
    return non_dominated([*front, *new]) if new else []
