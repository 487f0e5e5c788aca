"""When trials stop: now, at the first evaluation after the deadline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from autorank.search.searcher import JournalSearcher


class Scheduler(FIFOScheduler):
    """First in, first out; stops trials when time is up, and notes why a trial's process died."""

    def __init__(self, searcher: JournalSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return str(TrialScheduler.STOP if self._searcher.out_of_time else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._searcher.reasons[trial.trial_id] = _reason(Path(trial.error_file).read_text(errors="replace"))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see JournalSearcher


def _reason(text: str) -> str:
    """Why a trial failed, in a line, from what Ray wrote about it."""
    if "running low on memory" in text:
        return "its process was killed: the machine ran out of memory"
    if "ActorDiedError" in text or "died unexpectedly" in text:
        return "its process died: killed, for memory perhaps, or crashed; ray.log says more"
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "its process died")
