"""Tune's searcher for the trainings of a recipe: each row with each seed, except those that have ended."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from autorank.defaults import MAX_RETRIES
from autorank.errors import raise_if_disk_full
from autorank.modeling import rank_map
from autorank.recipes.results import RecipeRun, Results
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.retry_policy import Death
from autorank.spec import TrainSpec
from autorank.training.evaluation import Evaluation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """One training of a recipe.

    Attributes:
        run: Its row and seed.
        train: The specification.
        ranks_of: The training whose final ranks this one uses.
    """

    run: RecipeRun
    train: TrainSpec
    ranks_of: RecipeRun | None = None

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"{self.run.row.replace('/', '@')}@{self.run.seed}"


class RecipeSearcher(BaseSearcher):
    """Proposes trainings in order. A training that uses the ranks of another starts when the other has ended.

    A training whose process died or that ran out of memory is retried from its last evaluation; see `RetryPolicy`.

    Args:
        trainings: The trainings.
        results: The results so far, to which the outcomes are added.
        deadline: `time.monotonic()` after which no training starts or continues; stopped ones are not stored.
        retries: How often a training whose process died is retried.
        on_result: Called with the run and the outcome of each training that ends.
    """

    def __init__(
        self, trainings: Sequence[Training], results: Results, deadline: float = math.inf, retries: int = MAX_RETRIES,
        on_result: Callable[[RecipeRun, dict[str, Any]], object] = lambda run, outcome: None,
    ) -> None:  # fmt: skip
        super().__init__(deadline, retries)
        self._results, self._on_result = results, on_result
        self._trainings = {training.run: training for training in trainings}
        self._remaining = [training for training in trainings if not results.done(training.run)]
        self._running: dict[str, RecipeRun] = {}
        self._evaluations: dict[RecipeRun, dict[int, Evaluation]] = {}  # by step

    def has_work(self) -> bool:
        """Return whether trainings are left to start before the deadline."""
        return bool(self._remaining) and not self.out_of_time

    @override
    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        self._fail_without_ranks()
        ready = next((training for training in self._remaining if self._ready(training)), None)
        if ready is not None and self._must_wait(ready.run):
            return None
        if ready is None or self.problem or self.out_of_time:
            return self._wait_or_finish()
        self._remaining.remove(ready)
        self._running[trial_id] = ready.run
        self._evaluations[ready.run] = {}
        return {"number": ready.name, "train": self._spec(ready), "recorded": 0, "until": None}

    @override
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store the evaluation. A training that continues from a checkpoint reports all its evaluations again."""
        if "evaluation" in result and trial_id in self._running:
            evaluation = result["evaluation"]
            self._evaluations[self._running[trial_id]][evaluation.step] = evaluation
            self.on_progress()

    @override
    def _ended(self, run: RecipeRun, result: dict[str, Any], death: Death | None) -> None:
        training, evaluations = self._trainings[run], self._evaluations.pop(run)
        step, memory = max(evaluations, default=0), bool(result.get("out_of_memory"))
        if self._retry.retry(run, step, training.train, death, memory):
            self._remaining.append(training)
        elif death or "failed" in result:
            self._fail(training, death.reason if death else result["failed"])
        elif result.get("finished"):
            self._store(training, _outcome(training, list(evaluations.values())))

    def _ready(self, training: Training) -> bool:
        return training.ranks_of is None or self._results.done(training.ranks_of)

    def _fail_without_ranks(self) -> None:
        """Fail the trainings that need the ranks of a training that has failed."""
        unfinished = {*(training.run for training in self._remaining), *self._running.values()}
        for training in list(self._remaining):
            source = training.ranks_of
            if source and not self._ready(training) and source not in unfinished:
                self._remaining.remove(training)
                self._fail(training, f"it uses the ranks of {source.row}, seed {source.seed}, which failed")

    def _spec(self, training: Training) -> TrainSpec:
        train = self._retry.reduced(training.run, training.train)
        if training.ranks_of is None:
            return train
        file = (self._results.folder / "ranks" / f"{training.name}.json").resolve()
        rank_map.write(file, self._results.runs[training.ranks_of]["ranks"])
        return train.changed({"retrain": str(file)})

    def _fail(self, training: Training, reason: str) -> None:
        raise_if_disk_full(reason)
        logger.error("%s, seed %d failed: %s", *training.run, reason)
        self._store(training, {"failed": reason})

    def _store(self, training: Training, outcome: dict[str, Any]) -> None:
        self._results.add(training.run, outcome)
        shutil.rmtree(run_directory(self._results.folder, training), ignore_errors=True)
        self._on_result(training.run, outcome)


def run_directory(folder: Path, training: Training) -> Path:
    """The directory of a training's checkpoint while it runs."""
    return folder / "trials" / training.name


def _outcome(training: Training, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.step)
    last, fields = ordered[-1], ("step", "epoch", "score", "metrics", "adapter_params", "nonzero_params")
    return {
        "evaluations": [{name: getattr(evaluation, name) for name in fields} for evaluation in ordered],
        "ranks": last.ranks,
        "trainable_params": last.trainable_params,
        "head_params": last.head_params,
        "seconds": last.seconds,
        "train": training.train.model_dump(mode="json"),
    }
