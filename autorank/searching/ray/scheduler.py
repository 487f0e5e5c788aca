"""When Tune stops trials: when the searcher's halving or its clock says so; and what there is to do when one dies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from autorank.redaction import hide
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.ray.placement_groups import free
from autorank.searching.ray.shared_storage_check import NotShared
from autorank.searching.retry_policy import Death

PREEMPTED = (  # Ray says it in many ways
    "preempted", "node was terminated", "NodeDiedError", "The node died", "its node has died", "node failure",
    "ActorUnavailableError", "actor is temporarily unavailable",
)  # fmt: skip


class Scheduler(FIFOScheduler):
    """First in, first out; stops trials at their evaluations. Notes why a trial's process died, and frees what it had
    reserved for workers: nobody else will, and the next trial may need it."""

    def __init__(self, searcher: BaseSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._searcher.on_trial_result(trial.trial_id, result)  # Tune itself would tell it afterwards
        stop = self._searcher.should_stop(trial.trial_id)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Before the searcher hears of it: nothing has been handed out in the place of the trial yet."""
        free(trial.trial_id)
        self._searcher.deaths[trial.trial_id] = _death(Path(trial.error_file).read_text(errors="replace"))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see BaseSearcher


def _death(text: str) -> Death:
    """Why a trial's process died, in a line, from what Ray wrote about it."""
    text = hide(text)
    if storage_missing := re.findall(rf"{NotShared.__name__}: (Not all .*)", text):
        return Death(storage_missing[-1], storage_missing=True)
    if any(word in text for word in PREEMPTED):
        return Death("its node went away", preempted=True)
    if "running low on memory" in text:
        return Death("its process was killed: the machine ran out of memory")
    if "ActorDiedError" in text or "died unexpectedly" in text:
        return Death("its process died: killed, for memory perhaps, or crashed; ray.log says more")
    return Death(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "its process died"))
