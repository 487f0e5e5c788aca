"""Between Tune and the journal: hands out trials, records evaluations, tells how each trial ended."""

from __future__ import annotations

import errno
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from autorank.errors import AutorankError, disk_full
from autorank.searching.early_stopping.policy import StoppingPolicy
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.retry_policy import Death
from autorank.searching.sampling.curve_value import learnt
from autorank.searching.sampling.trial_planner import TrialPlanner
from autorank.searching.space.param_bounds import Bounds, LengthCheck, any_length
from autorank.trials.journal import Journal
from autorank.trials.record import TrialRecord

logger = logging.getLogger(__name__)

OUT_OF_TIME = "time budget"
LENGTH = 3  # evaluations of a run, where nothing else is known
HOPELESS = 3  # trials that fail for one and the same reason, and no other, before a search gives up


class JournalSearcher(BaseSearcher):
    """Tune's searcher over a journal.

    Trials that an earlier session left running go on first, from their last evaluation. So does one whose process
    died or that ran out of memory, as `RetryPolicy` decides.

    Args:
        journal: of the search, open for writing.
        bounds: of adapter parameters.
        check_length: of the search's runs.
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
        deadline: float = math.inf,
        retries: int = 3,
        evaluations: int = LENGTH,
        on_evaluation: Callable[[], object] = lambda: None,
        check_length: LengthCheck = any_length,
    ) -> None:
        super().__init__(deadline, retries)
        self.exhausted = False  # nothing new was found in the space
        self.cut_off = False  # a trial was pruned because the time was up
        self._journal = journal
        self._planner = TrialPlanner(journal, bounds, check_length)
        self._stopping = StoppingPolicy(journal.spec, bounds, evaluations)
        self._on_evaluation = on_evaluation
        self._running: dict[str, int] = {}  # Tune's id -> the journal's number
        there = journal.trials()
        self._waiting = deque(trial.number for trial in there if trial.state == "running")
        self._left = trials - len(there)
        for trial in there:
            self._stopping.replay(trial)
            self._retry.restore(trial.number, trial.retries, trial.reduced_micro_batch)

    def wanted(self) -> bool:
        """Whether trials wait, or new ones may begin."""
        return bool(self._waiting) or (self._left > 0 and not self.exhausted)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next trial (`number`, `train`: its TrainSpec, `recorded`: the last step in the journal), FINISHED, or
        None: ask again."""
        try:
            return self._next(trial_id)
        except Exception as error:
            self.problem = error
            return Searcher.FINISHED

    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._must_wait():
            return None
        while self._waiting and not self.problem:
            trial = self._journal.trial(self._waiting[0])
            if self._must_wait(trial.number):
                return None
            self._waiting.popleft()
            if trial.finished:
                self._end(trial.number, "complete")
                continue
            if reason := trial.stop_reason or (OUT_OF_TIME if self.out_of_time else None):
                self._end(trial.number, "pruned", reason)
                continue
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
        return None if self._running and not self.out_of_time and not self.problem else Searcher.FINISHED

    def _hand_out(self, trial_id: str, trial: TrialRecord) -> dict[str, Any]:
        self._running[trial_id] = trial.number
        train = self._retry.reduced(trial.number, self._journal.spec.train(trial.method, trial.config))
        return {"number": trial.number, "train": train.model_dump(mode="json"), "recorded": trial.step}

    def should_stop(self, trial_id: str) -> bool:
        """Return whether the journal has a reason to stop a trial after its last evaluation."""
        number = self._running.get(trial_id)
        return number is not None and self._journal.trial(number).stop_reason is not None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Records the evaluation that a result carries, and with it whether it stops the trial: a search that is cut
        off here goes on with the same decision. Tune hands on some results twice."""
        if "evaluation" not in result or trial_id not in self._running:
            return
        number, evaluation, last = self._running[trial_id], result["evaluation"], result["finished"]
        try:
            trial = self._journal.trial(number)
            if evaluation.step <= trial.step:
                return
            reason = None if last else self._reason(replace(trial, evaluations=(*trial.evaluations, evaluation)))
            self._journal.record(number, evaluation, last, reason)
            self.on_progress()
            self._on_evaluation()
        except Exception as error:
            self.problem = self.problem or error

    def _reason(self, trial: TrialRecord) -> str | None:
        """Why a trial stops after its last evaluation."""
        if self.out_of_time:
            return OUT_OF_TIME
        return self._stopping.reason(trial, self._journal.snapshot().points)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells how a trial ended: failed, pruned or complete; or puts it back, to be tried again."""
        if result:
            self.on_trial_result(trial_id, result)
        number = self._running.pop(trial_id, None)
        if number is None or self.problem:
            return
        death = self.deaths.pop(trial_id, Death("its process died")) if error else None
        try:
            self.on_progress(death)  # if it raises, the trial goes on when the search does
            self._ended(number, result or {}, death)
            self._on_evaluation()
        except Exception as problem:
            self.problem = problem

    def _ended(self, number: int, result: dict[str, Any], death: Death | None) -> None:
        trial = self._journal.trial(number)
        train = self._journal.spec.train(trial.method, trial.config)
        if trial.finished:  # whatever happened on the way out
            self._end(number, "complete")
        elif self._retry.again(number, trial.step, train, death, bool(result.get("out_of_memory"))):
            self._again(number, death.reason if death else result["failed"])
        elif death:
            self._fail(number, death.reason)
        elif "failed" in result:
            logger.error("trial %d failed\n%s", number, result["traceback"])
            self._fail(number, result["failed"])
        else:
            self._end(number, "pruned", trial.stop_reason or (OUT_OF_TIME if self.out_of_time else "stopped"))

    def _again(self, number: int, reason: str) -> None:
        """A trial is to go on from its last evaluation, if there is time."""
        counts = {"retries": self._retry.deaths(number), "reduced_micro_batch": self._retry.halvings(number)}
        trial = self._journal.trial(number)
        self._journal.note(number, **{name: n for name, n in counts.items() if n != getattr(trial, name)})
        if self.out_of_time:
            self._end(number, "pruned", OUT_OF_TIME)
        else:
            logger.warning("trial %d goes on from step %d: %s", number, trial.step, reason)
            self._waiting.append(number)

    def _end(self, number: int, state: Any, reason: str | None = None) -> None:
        sampler_values = None
        self.cut_off |= reason == OUT_OF_TIME
        if state != "failed":
            journal = self._journal
            sampler_values = learnt(journal.trial(number), journal.trials(), journal.spec.objectives, journal.reference)
        self._planner.learn(self._journal.finish(number, state, reason, sampler_values))

    def _fail(self, number: int, reason: str) -> None:
        """A trial fails alone, unless the disk is full or nothing but this failure was ever seen."""
        self._end(number, "failed", reason)
        check_space(reason)
        self._check_hopeless(reason)

    def _check_hopeless(self, reason: str) -> None:
        trials = ended(self._journal.trials())
        if len(trials) >= HOPELESS and {(trial.state, trial.reason) for trial in trials} == {("failed", reason)}:
            raise AutorankError(f"All {len(trials)} trials failed, for the same reason: {reason}")


def check_space(reason: str) -> None:
    """Raises OSError where the reason that something failed for is a full disk: everything else would fail too."""
    if disk_full(Exception(reason)):
        raise OSError(errno.ENOSPC, reason)


def ended(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The trials that are done with."""
    return [trial for trial in trials if trial.state != "running"]
