"""Connects Tune and the journal: starts trials, records evaluations and ends."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from typing_extensions import override

from autorank.defaults import MAX_RETRIES
from autorank.errors import AutorankError, raise_if_disk_full
from autorank.searching.early_stopping.policy import StoppingPolicy
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.retry_policy import Death
from autorank.searching.sampling.curve_value import learned_values
from autorank.searching.sampling.trial_planner import TrialPlanner
from autorank.searching.space.param_bounds import Bounds, LengthCheck, any_length
from autorank.trials.journal.journal import Journal
from autorank.trials.record import TrialRecord, ended_trials
from autorank.trials.statistics.forecast import FLAT_HORIZON_TRIALS, forecast

logger = logging.getLogger(__name__)

OUT_OF_TIME = "time budget"
DEFAULT_EVALUATIONS = 3  # number of evaluations of a run of unknown length
MAX_EQUAL_FAILURES = 3  # trials that all fail for the same reason before a search ends with an error


class JournalSearcher(BaseSearcher):
    """Tune's searcher, which reads and writes the journal.

    Trials that an earlier session left running continue first, from their last evaluation. Trials whose process died or
    that ran out of memory are retried as `RetryPolicy` decides.

    Args:
        journal: The journal of the search, open for writing.
        bounds: Bounds of adapter parameters.
        trials: Total number of trials, including those of earlier sessions.
        deadline: `time.monotonic()` after which no trial starts or continues.
        retries: How often a trial whose process died is retried.
        evaluations: Evaluations of a complete run.
        on_evaluation: Called after each evaluation is in the journal, and after the end of each trial.
        check_length: Check of the length of runs.
        stop_when_flat: Start no trial if more trials are not expected to add to the front.

    Attributes:
        exhausted: Whether all settings of the space were tried.
        flat: Whether the search stopped because more trials were not expected to add to the front.
        cut_off: Whether a trial was stopped because the time was over.
    """

    def __init__(
        self,
        journal: Journal,
        bounds: Bounds,
        trials: int,
        deadline: float = math.inf,
        retries: int = MAX_RETRIES,
        evaluations: int = DEFAULT_EVALUATIONS,
        on_evaluation: Callable[[], object] = lambda: None,
        check_length: LengthCheck = any_length,
        stop_when_flat: bool = False,
    ) -> None:
        super().__init__(deadline, retries)
        self.exhausted = self.flat = False
        self.cut_off = False
        self._journal = journal
        self._planner = TrialPlanner(journal, bounds, check_length)
        self._stopping = StoppingPolicy(journal.spec, bounds, evaluations)
        self._on_evaluation = on_evaluation
        self._stop_when_flat, self._forecast_at = stop_when_flat, 0
        self._running: dict[str, int] = {}  # Tune's id -> number in the journal
        earlier = journal.trials()
        self._waiting = deque(trial.number for trial in earlier if trial.state == "running")
        self._remaining = trials - len(earlier)
        for trial in earlier:
            self._stopping.replay(trial)
            self._retry.restore(trial.number, trial.retries, trial.reduced_micro_batch)

    def has_work(self) -> bool:
        """Return whether trials are waiting or new ones can start."""
        return bool(self._waiting) or (self._remaining > 0 and not self.exhausted and not self.flat)

    @override
    def _next(self, trial_id: str) -> dict[str, Any] | str | None:
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
            return self._start(trial_id, trial)
        while self._remaining > 0 and not self.out_of_time and not self.problem and not self._update_flat():
            new = self._planner.begin()
            if new is None:
                self.exhausted = True
                break
            self._remaining -= 1
            if new.state == "running":
                return self._start(trial_id, new)
            self._check_hopeless(str(new.reason))
        return self._wait_or_finish()

    def _update_flat(self) -> bool:
        """Return whether the search is flat. The forecast is updated when 1% more trials have ended."""
        if self._stop_when_flat and not self.flat:
            count = len(ended_trials(self._journal.trials()))
            if count - self._forecast_at >= max(1, count // 100):
                self._forecast_at = count
                prediction = forecast(self._journal.snapshot(), FLAT_HORIZON_TRIALS)
                self.flat = prediction is not None and prediction.flat
        return self.flat

    def _start(self, trial_id: str, trial: TrialRecord) -> dict[str, Any]:
        self._running[trial_id] = trial.number
        train = self._retry.reduced(trial.number, self._journal.spec.train(trial.method, trial.settings))
        return {"number": trial.number, "train": train, "recorded": trial.step}

    def should_stop(self, trial_id: str) -> bool:
        """Return whether the journal has a reason to stop a trial after its last evaluation."""
        number = self._running.get(trial_id)
        return number is not None and self._journal.trial(number).stop_reason is not None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the evaluation of a result together with the decision to stop the trial.

        So an interrupted search resumes with the same decision. Tune passes some results twice.
        """
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
        """The reason why a trial stops after its last evaluation, or None."""
        if self.out_of_time:
            return OUT_OF_TIME
        return self._stopping.reason(trial, self._journal.snapshot().points)

    @override
    def _ended(self, run: int, result: dict[str, Any], death: Death | None) -> None:
        trial = self._journal.trial(run)
        train = self._journal.spec.train(trial.method, trial.settings)
        if trial.finished:  # even if its process died afterwards
            self._end(run, "complete")
        elif self._retry.retry(run, trial.step, train, death, bool(result.get("out_of_memory"))):
            self._requeue(run, death.reason if death else result["failed"])
        elif death:
            self._fail(run, death.reason)
        elif "failed" in result:
            logger.error("trial %d failed\n%s", run, result["traceback"])
            self._fail(run, result["failed"])
        else:
            self._end(run, "pruned", trial.stop_reason or (OUT_OF_TIME if self.out_of_time else "stopped"))
        self._on_evaluation()

    def _requeue(self, number: int, reason: str) -> None:
        """Continue a trial from its last evaluation if there is time left."""
        counts = {"retries": self._retry.deaths(number), "reduced_micro_batch": self._retry.halvings(number)}
        trial = self._journal.trial(number)
        self._journal.note(number, **{name: n for name, n in counts.items() if n != getattr(trial, name)})
        if self.out_of_time:
            self._end(number, "pruned", OUT_OF_TIME)
        else:
            logger.warning("trial %d continues from step %d: %s", number, trial.step, reason)
            self._waiting.append(number)

    def _end(self, number: int, state: Any, reason: str | None = None) -> None:
        sampler_values = None
        self.cut_off |= reason == OUT_OF_TIME
        if state != "failed":
            journal = self._journal
            objectives, reference = journal.spec.objectives, journal.reference
            sampler_values = learned_values(journal.trial(number), journal.trials(), objectives, reference)
        self._planner.learn(self._journal.finish(number, state, reason, sampler_values))

    def _fail(self, number: int, reason: str) -> None:
        """Record a failure; it ends the search if all trials have failed in this way.

        A full disk also ends the search, but does not count as a failure of the trial, which continues when the search
        is resumed.
        """
        raise_if_disk_full(reason)
        self._end(number, "failed", reason)
        self._check_hopeless(reason)

    def _check_hopeless(self, reason: str) -> None:
        trials = ended_trials(self._journal.trials())
        outcomes = {(trial.state, trial.reason) for trial in trials}
        if len(trials) >= MAX_EQUAL_FAILURES and outcomes == {("failed", reason)}:
            raise AutorankError(f"All {len(trials)} trials failed for the same reason: {reason}")
