"""Searches in virtual time: recorded curves are replayed where trials would train.

Searcher, scheduler and journal are the real ones, driven as Tune drives them (`TuneController` of ray 2.60); only time
and training are not. So samplers and schedulers are compared on hundreds of searches, see `search.py`.
"""

from __future__ import annotations

import heapq
import itertools
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages.journal import BaseJournalBackend
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.spec import SearchSpec
from autorank.training.evaluation import Evaluation
from autorank.trials.front import NO_LIMITS, hypervolume, non_dominated
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.study_metadata import write_study
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.record import TrialRecord
from benchmarks.simulation.curves import Curves, Replay


class MemoryBackend(BaseJournalBackend):
    """The lines of a journal in memory."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lines += logs


def quiet_optuna() -> None:
    """Turn off Optuna's log of trials, and its warnings about experimental features."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def memory_journal(spec: SearchSpec, reference: tuple[float, float]) -> Journal:
    """Create the journal of a new search in memory."""
    backend = MemoryBackend()
    write_study(backend, spec, reference)
    return Journal(backend, Path(spec.name))


class SimulatedProgress(NamedTuple):
    """Cost and result of a search at one moment.

    Attributes:
        cost: Cost of training and evaluating all trials so far, in training steps.
        hypervolume: Hypervolume of the front.
    """

    cost: float
    hypervolume: float


class Trial:
    """A running trial, with the attributes of Tune's trials that schedulers read.

    Args:
        trial_id: Tune's id.
        run: The replayed run.

    Attributes:
        result: The next result.
        cost: What the next result costs, in training steps.
    """

    def __init__(self, trial_id: str, run: Replay) -> None:
        self.trial_id, self.run, self._count = trial_id, run, 0

    def train(self) -> None:
        """Compute the next result: that of `WarmTrial`, and plain metrics for other searchers and schedulers."""
        cost_before = self.run.cost
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
        self.cost = self.run.cost - cost_before


def simulate(
    searcher: Searcher, scheduler: Any, curves: Curves, workers: int, budget: float, last: bool = False,
    sliced: bool = True,
) -> list[SimulatedProgress]:  # fmt: skip
    """Run one search until its trials have used up the budget or the searcher has no more trials.

    A training step takes one unit of virtual time; an evaluation, and each slice, takes `curves.evaluation_cost`.

    Args:
        searcher: The searcher; suggests settings, or trials as `JournalSearcher` does.
        scheduler: A scheduler of Tune, called without a controller for each evaluation of a trial except the last.
        curves: The recorded trials.
        workers: Number of trials that run at the same time.
        budget: The budget, in training steps.
        last: Compute the front of the trials' last evaluations only, as in Ray's results and Optuna's study.
        sliced: Include slices in evaluations.

    Returns:
        The progress at the start, after each evaluation that changed the front, and at the end.
    """
    front: list[Point] = []
    history = [SimulatedProgress(0.0, 0.0)]
    names = (f"trial-{number}" for number in itertools.count())
    order = itertools.count()
    queue: list[tuple[float, int, Trial]] = []  # time of the next result, order, trial
    now = spent = 0.0

    def advance(trial: Trial) -> None:
        trial.train()
        heapq.heappush(queue, (now + trial.cost, next(order), trial))

    while spent < budget:
        while len(queue) < workers and isinstance(suggested := searcher.suggest(name := next(names)), dict):
            settings = suggested["train"].settings if "train" in suggested else suggested
            trial = Trial(name, curves.run(settings, sliced))
            scheduler.on_trial_add(None, trial)
            advance(trial)
        if not queue:
            break
        now, _, trial = heapq.heappop(queue)
        spent += trial.cost
        result = trial.result
        if not result["done"] and scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE:
            searcher.on_trial_result(trial.trial_id, result)
            advance(trial)
        else:
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
        if (
            "evaluation" in result
            and (result["done"] or not last)
            and (extended := _extended(front, result["evaluation"]))
        ):
            front = extended
            history.append(SimulatedProgress(spent, hypervolume(front, curves.reference)))
    if problem := getattr(searcher, "problem", None):
        raise problem
    return [*history, SimulatedProgress(spent, history[-1].hypervolume)]


def _extended(front: list[Point], evaluation: Evaluation) -> list[Point]:
    """The front with an evaluation and its slices; empty if none of them is on it."""
    new = [
        point
        for point in points_of(TrialRecord(0, "", {}), evaluation)
        if admitted(point, NO_LIMITS)
        and not any(old.adapter_params <= point.adapter_params and old.score >= point.score for old in front)
    ]
    return non_dominated([*front, *new]) if new else []
