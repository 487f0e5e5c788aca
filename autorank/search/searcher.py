"""Between Tune and the journal: hands out trials, records evaluations, tells how each trial ended."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.results.journal import Journal
from autorank.results.records import TrialRecord, best
from autorank.search.halving import Halving, Reached
from autorank.search.planner import Planner
from autorank.search.proposals import expected
from autorank.search.sizes import Bounds

logger = logging.getLogger(__name__)

OUT_OF_TIME = "time budget"
BEATEN = "beaten"
NO_SPACE = "No space left"  # in every message about a full disk
HOPELESS = 3  # trials that fail for one and the same reason, and no other, before a search gives up


@dataclass(frozen=True)
class Death:
    """Why a trial's process died. `preempted`: its node went away, which is no fault of the trial."""

    reason: str
    preempted: bool = False


class JournalSearcher(Searcher):
    """Tune's searcher over a journal. An error in here (a full disk) is kept in `problem`: Tune hides some.

    Trials that an earlier session left running go on first, from their last evaluation. So does one whose process
    died, up to `retries` times; and one that ran out of memory, once, alone, with half the micro-batch.

    Args:
        journal: of the search, open for writing.
        bounds: of adapter parameters.
        trials: how many shall have ended in total; those of earlier sessions count.
        deadline: `time.monotonic()` after which no trial starts and none goes on.
        evaluations: of a whole run.
        on_evaluation: called after each evaluation is in the journal, and after each trial's end.
    """

    def __init__(
        self,
        journal: Journal,
        bounds: Bounds,
        trials: int,
        deadline: float | None = None,
        retries: int = 3,
        evaluations: int = 3,
        on_evaluation: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.exhausted = False  # every setting of the space has had its trial
        self.deaths: dict[str, Death] = {}  # of trials whose process died; the scheduler leaves them here
        self._journal, self._bounds = journal, bounds
        self._planner = Planner(journal, bounds)
        self._halving = Halving(journal.spec.halving, evaluations) if journal.spec.halving else None
        self._deadline, self._retries = deadline, retries
        self._on_evaluation = on_evaluation
        self._numbers: dict[str, int] = {}  # Tune's id -> the journal's number, of trials at work
        self._alone: str | None = None  # Tune's id of a trial that must have the machine to itself
        there = journal.trials()
        self._waiting = deque(trial.number for trial in there if trial.state == "running")
        self._left = trials - len(there)
        for trial in there:
            self._replay(trial)

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next trial (`number`, `train`: its TrainSpec, `recorded`: the last step in the journal), FINISHED, or
        None: ask again."""
        try:
            return self._next(trial_id)
        except Exception as error:
            self.problem = error
            return Searcher.FINISHED

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._alone in self._numbers:
            return None
        while self._waiting and not self.problem:
            trial = self._journal.trial(self._waiting[0])
            if trial.halved and self._numbers:
                return None  # until the others have ended
            self._waiting.popleft()
            if trial.finished:
                self._end(trial.number, "complete")
                continue
            if self.out_of_time or self._beaten(trial):
                self._end(trial.number, "pruned", OUT_OF_TIME if self.out_of_time else BEATEN)
                continue
            if trial.halved:
                self._alone = trial_id
            return self._hand_out(trial_id, trial)
        while self._left > 0 and not self.out_of_time and not self.problem:
            new = self._planner.begin()
            if new is None:
                self.exhausted = True
                break
            self._left -= 1
            if new.state == "running":
                return self._hand_out(trial_id, new)
            self._check_hopeless(str(new.reason))
        # a trial at work may yet have to be tried again
        return None if self._numbers and not self.out_of_time and not self.problem else Searcher.FINISHED

    def _hand_out(self, trial_id: str, trial: TrialRecord) -> dict[str, Any]:
        self._numbers[trial_id] = trial.number
        train = self._journal.spec.train(trial.method, trial.config)
        if trial.halved:
            accumulate = 2 * train.training.accumulate
            train = train.model_copy(update={"training": train.training.model_copy(update={"accumulate": accumulate})})
        return {"number": trial.number, "train": train.model_dump(mode="json"), "recorded": trial.step}

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Records the evaluation that a result carries; whether the trial goes on after it."""
        self.on_trial_result(trial_id, result)
        if self.out_of_time and not result.get("finished"):
            return False
        number = self._numbers.get(trial_id)
        if number is None or "evaluation" not in result or result["finished"]:
            return True
        return not self._beaten(self._journal.trial(number))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Records the evaluation that a result carries. Tune hands on some results twice."""
        if "evaluation" not in result or trial_id not in self._numbers:
            return
        try:
            if self._journal.record(self._numbers[trial_id], result["evaluation"], last=result["finished"]):
                self._on_evaluation()
        except Exception as error:
            self.problem = self.problem or error

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells how a trial ended: failed, pruned or complete; or puts it back, to be tried again."""
        if result:
            self.on_trial_result(trial_id, result)
        number = self._numbers.pop(trial_id, None)
        if number is None or self.problem:
            return
        try:
            self._ended(number, result or {}, self.deaths.pop(trial_id, Death("its process died")) if error else None)
            self._on_evaluation()
        except Exception as problem:
            self.problem = problem

    def _ended(self, number: int, result: dict[str, Any], death: Death | None) -> None:
        trial = self._journal.trial(number)
        if death and (death.preempted or trial.retries < self._retries):
            if not death.preempted:
                self._journal.note(number, retries=trial.retries + 1)
            logger.warning("trial %d goes on from step %d: %s", number, trial.step, death.reason)
            self._waiting.append(number)
        elif death:
            self._fail(number, death.reason)
        elif result.get("out_of_memory") and not trial.halved:
            logger.warning("trial %d is tried again alone, with half the micro-batch: %s", number, result["failed"])
            self._journal.note(number, halved=True)
            self._waiting.append(number)
        elif "failed" in result:
            logger.error("trial %d failed\n%s", number, result["traceback"])
            self._fail(number, result["failed"])
        elif result.get("finished"):
            self._end(number, "complete")
        else:
            self._end(number, "pruned", OUT_OF_TIME if self.out_of_time else BEATEN)

    def _end(self, number: int, state: Any, reason: str | None = None) -> None:
        told = None
        if state == "pruned":
            trial = self._journal.trial(number)
            told = expected(trial, self._target(trial), self._journal.trials())
        self._planner.learn(self._journal.finish(number, state, reason, told))

    def _fail(self, number: int, reason: str) -> None:
        """A trial fails alone, unless the disk is full or nothing but this failure was ever seen."""
        self._end(number, "failed", reason)
        if NO_SPACE in reason:
            raise OSError(errno.ENOSPC, reason)
        self._check_hopeless(reason)

    def _check_hopeless(self, reason: str) -> None:
        trials = ended(self._journal.trials())
        if len(trials) >= HOPELESS and {(trial.state, trial.reason) for trial in trials} == {("failed", reason)}:
            raise AutorankError(f"All {len(trials)} trials failed, for the same reason: {reason}")

    def _beaten(self, trial: TrialRecord) -> bool:
        """Whether the scheduler stops a trial after its last evaluation."""
        count = len(trial.evaluations)
        top = best(trial.evaluations)
        if self._halving is None or top is None or not self._halving.is_rung(trial.number, count):
            return False
        reached = Reached(self._target(trial), top.score)
        return not self._halving.goes_on(trial.method, trial.number, count, reached)

    def _replay(self, trial: TrialRecord) -> None:
        """An earlier session's trial at the rungs that it reached."""
        if self._halving is None or not trial.evaluations:
            return
        target = self._target(trial)
        for count in range(1, len(trial.evaluations) + 1):
            if self._halving.is_rung(trial.number, count) and (top := best(trial.evaluations[:count])):
                self._halving.goes_on(trial.method, trial.number, count, Reached(target, top.score))

    def _target(self, trial: TrialRecord) -> float:
        """The parameters that a trial will end with: exact where the settings tell; else those of the moment, which
        are final in methods that allocate before they train."""
        fewest, most = self._bounds(trial.method, trial.config)
        return float(min(max(trial.evaluations[-1].adapter_params, fewest), most)) if trial.evaluations else float(most)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we do not use; a journal is no value


def ended(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The trials that are done with."""
    return [trial for trial in trials if trial.state != "running"]
