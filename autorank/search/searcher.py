"""Between Tune and the journal: asks for settings, records evaluations, tells how each trial ended."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from autorank import method
from autorank.errors import AutorankError
from autorank.results.journal import INTERRUPTED, Journal
from autorank.results.records import TrialRecord
from autorank.search import space

logger = logging.getLogger(__name__)

OUT_OF_TIME = "time budget"
NO_SPACE = "No space left"  # in every message about a full disk
HOPELESS = 3  # trials that fail for one and the same reason, and no other, before a search gives up


class JournalSearcher(Searcher):
    """Tune's searcher over a journal. An error in here (a full disk) is kept in `problem`: Tune hides some.

    Args:
        journal: of the search, open for writing.
        trials: how many shall have ended in total; those of earlier sessions count, interrupted ones do not.
        deadline: `time.monotonic()` after which no trial starts and none goes on.
        on_evaluation: called with all records after each evaluation is in the journal.
    """

    def __init__(
        self,
        journal: Journal,
        trials: int,
        deadline: float | None = None,
        on_evaluation: Callable[[list[TrialRecord]], None] = lambda trials: None,
    ) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.reasons: dict[str, str] = {}  # of trials whose process died; the scheduler leaves them here
        self._journal = journal
        self._left = trials - len(ended(journal.trials()))
        self._deadline = deadline
        self._on_evaluation = on_evaluation
        self._numbers: dict[str, int] = {}  # Tune's id -> the journal's number, of running trials
        self._recorded: dict[str, int] = {}  # Tune's id -> last step in the journal

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next trial as `{"number", "settings"}`, or FINISHED."""
        try:
            while self._left > 0 and not self.out_of_time and not self.problem:
                self._left -= 1
                if (settings := self._start(trial_id)) is not None:
                    return {"number": self._numbers[trial_id], "settings": settings}
        except Exception as error:
            self.problem = error
        return Searcher.FINISHED

    def _start(self, trial_id: str) -> dict[str, Any] | None:
        """All settings of a new trial: suggested, fixed and default ones; None if the method refuses them."""
        train = self._journal.spec.train
        trial = self._journal.ask()
        settings: dict[str, Any] = train.settings | space.suggest(self._journal.spec.space, trial)
        try:
            settings = method.configure(train.method, settings).config.model_dump(mode="json")
        except AutorankError as refused:
            self._journal.start(trial.number, settings)
            self._fail(trial.number, str(refused))
            return None
        self._journal.start(trial.number, settings)
        self._numbers[trial_id] = trial.number
        return settings

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Records the evaluation that a result carries."""
        evaluation = result.get("evaluation")
        if evaluation is None or trial_id not in self._numbers:
            return
        if self._recorded.get(trial_id) == evaluation.step:
            return  # Tune hands on a last result twice
        try:
            self._journal.record(self._numbers[trial_id], evaluation)
            self._recorded[trial_id] = evaluation.step
            self._on_evaluation(self._journal.trials())
        except Exception as error:
            self.problem = self.problem or error

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells how a trial ended: failed, pruned because time is up, or complete."""
        if result:
            self.on_trial_result(trial_id, result)
        number = self._numbers.pop(trial_id, None)
        if number is None or self.problem:
            return
        result = result or {}
        try:
            if error:
                self._fail(number, self.reasons.pop(trial_id, "its process died"))
            elif "failed" in result:
                logger.error("trial %d failed\n%s", number, result["traceback"])
                self._fail(number, result["failed"])
            elif result.get("finished"):
                self._journal.finish(number, "complete")
            else:
                self._journal.finish(number, "pruned", OUT_OF_TIME if self.out_of_time else "stopped")
        except Exception as problem:
            self.problem = problem

    def _fail(self, number: int, reason: str) -> None:
        """A trial fails alone, unless the disk is full or nothing but this failure was ever seen."""
        self._journal.finish(number, "failed", reason)
        if NO_SPACE in reason:
            raise OSError(errno.ENOSPC, reason)
        trials = ended(self._journal.trials())
        seen = {(trial.state, trial.reason) for trial in trials}
        if len(trials) >= HOPELESS and seen == {("failed", reason)}:
            raise AutorankError(f"All {len(trials)} trials failed, for the same reason: {reason}")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that we do not use; a journal is no value


def ended(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The trials that are done with: not running, and not interrupted, for those are tried again."""
    return [trial for trial in trials if trial.state != "running" and trial.reason != INTERRUPTED]
