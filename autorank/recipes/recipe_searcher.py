"""Tune's searcher over a recipe's trainings: every row with every seed, those that have ended left out."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from autorank.modeling import rank_map
from autorank.recipes.results import Results, Run
from autorank.searching.journal_searcher import check_space
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.retry_policy import Death
from autorank.spec import TrainSpec
from autorank.training.evaluation import Evaluation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A row with a seed. `ranks_of`: the row and seed whose ranks it is trained with."""

    run: Run
    train: TrainSpec
    ranks_of: Run | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.run[0].replace('/', '@')}@{self.run[1]}"


class RecipeSearcher(BaseSearcher):
    """Hands out trainings in their order; one that takes another's ranks once that has ended.

    One whose process died or that ran out of memory is tried again as `RetryPolicy` decides, from its last evaluation.

    Args:
        deadline: `time.monotonic()` after which none starts and none goes on; such a one is cut off, not stored.
        told: called with what has ended and what it came to.
    """

    def __init__(
        self, trainings: Sequence[Training], results: Results, deadline: float = math.inf, retries: int = 3,
        told: Callable[[Run, dict[str, Any]], object] = lambda run, outcome: None,
    ) -> None:  # fmt: skip
        super().__init__(deadline, retries)
        self._results, self._told = results, told
        self._left = [each for each in trainings if not results.done(each.run)]
        self._running: dict[str, Run] = {}
        self._at_work: dict[str, tuple[Training, dict[int, Evaluation]]] = {}  # what `_running` is, and its evaluations

    def wanted(self) -> bool:
        """Whether anything is left, and time to do it."""
        return bool(self._left) and not self.out_of_time

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next one as `WarmTrial` takes it, FINISHED, or None: ask again."""
        if self._must_wait():
            return None
        try:
            self._refuse_hopeless()
            ready = next((training for training in self._left if self._ready(training)), None)
        except Exception as error:
            self.problem, ready = error, None
        if ready is not None and self._must_wait(ready.run):
            return None
        if ready is None or self.problem or self.out_of_time:
            return None if self._running and not self.problem and not self.out_of_time else self.FINISHED
        self._left.remove(ready)
        self._running[trial_id] = ready.run
        self._at_work[trial_id] = ready, {}
        return {"number": ready.name, "train": self._plain(ready), "recorded": 0, "until": None}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the evaluation; what goes on from a checkpoint tells all of them again."""
        if "evaluation" in result and trial_id in self._running:
            evaluation = result["evaluation"]
            self._at_work[trial_id][1][evaluation.step] = evaluation
            self.on_progress()

    @override
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Store the result of a row, or retry it."""
        result = result or {}
        self.on_trial_result(trial_id, result)
        self._running.pop(trial_id, None)
        training, evaluations = self._at_work.pop(trial_id, (None, {}))
        if training is None or self.problem:
            return
        death = self.deaths.pop(trial_id, Death("its process died")) if error else None
        try:
            self.on_progress(death)
            step, memory = max(evaluations, default=0), bool(result.get("out_of_memory"))
            if self._retry.retry(training.run, step, training.train, death, memory):
                self._left.append(training)
            elif death or "failed" in result:
                self._fail(training, death.reason if death else result["failed"])
            elif result.get("finished"):
                self._store(training, _outcome(training, list(evaluations.values())))
        except Exception as problem:
            self.problem = problem

    def _ready(self, training: Training) -> bool:
        return training.ranks_of is None or self._results.done(training.ranks_of)

    def _refuse_hopeless(self) -> None:
        """What waits for ranks that will not come has failed."""
        coming = {each.run for each in (*self._left, *(training for training, _ in self._at_work.values()))}
        for each in list(self._left):
            if each.ranks_of and not self._ready(each) and each.ranks_of not in coming:
                self._left.remove(each)
                self._fail(each, f"it takes the ranks of {each.ranks_of[0]}, seed {each.ranks_of[1]}, which failed")

    def _plain(self, training: Training) -> dict[str, Any]:
        plain = self._retry.reduced(training.run, training.train).model_dump(mode="json")
        if training.ranks_of is not None:
            file = (self._results.folder / "ranks" / f"{training.name}.json").resolve()
            rank_map.write(file, self._results.runs[training.ranks_of]["ranks"])
            plain["settings"]["retrain"] = str(file)
        return plain

    def _fail(self, training: Training, reason: str) -> None:
        check_space(reason)
        logger.error("%s, seed %d failed: %s", *training.run, reason)
        self._store(training, {"failed": reason})

    def _store(self, training: Training, outcome: dict[str, Any]) -> None:
        self._results.add(training.run, outcome)
        shutil.rmtree(place(self._results.folder, training), ignore_errors=True)
        self._told(training.run, outcome)


def place(folder: Path, training: Training) -> Path:
    """Where a training's checkpoint is while it runs."""
    return folder / "trials" / training.name


def _outcome(training: Training, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.step)
    last, kept = ordered[-1], ("step", "epoch", "score", "metrics", "adapter_params", "nonzero_params")
    return {
        "evaluations": [{name: getattr(each, name) for name in kept} for each in ordered],
        "ranks": last.ranks,
        "trainable_params": last.trainable_params,
        "head_params": last.head_params,
        "seconds": last.seconds,
        "train": training.train.model_dump(mode="json"),
    }
