"""Tune's scheduler: stops trials as the searcher decides, and cleans up after trials whose process died."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from typing_extensions import override

from autorank.redaction import hide
from autorank.searching.ray.actors.pack_actor import GPU_FAILED, PackLost
from autorank.searching.ray.actors.placement_groups import release
from autorank.searching.ray.base_searcher import BaseSearcher
from autorank.searching.ray.shared_storage_check import NotShared
from autorank.searching.retry_policy import Death

PREEMPTED = (  # Ray's messages for a lost node
    "preempted", "node was terminated", "NodeDiedError", "The node died", "its node has died", "node failure",
    "ActorUnavailableError", "actor is temporarily unavailable",
)  # fmt: skip


class Scheduler(FIFOScheduler):
    """First in, first out, with trials stopped at their evaluations.

    If a trial's process dies, the reason is recorded and the resources reserved for its workers are released, which
    Tune does not do.

    Args:
        searcher: Decides which trials stop.
    """

    def __init__(self, searcher: BaseSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    @override
    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._searcher.on_trial_result(trial.trial_id, result)  # before the decision; Tune calls it afterwards
        stop = self._searcher.should_stop(trial.trial_id)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    @override
    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Record the reason before the searcher starts another trial."""
        release(trial.trial_id)
        self._searcher.deaths[trial.trial_id] = _death(Path(trial.error_file).read_text(errors="replace"))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see BaseSearcher


def _death(text: str) -> Death:
    """The reason why a trial's process died, in one line, from Ray's message."""
    text = hide(text)
    if storage_missing := re.findall(rf"{NotShared.__name__}: (Not all .*)", text):
        return Death(storage_missing[-1], storage_missing=True)
    if PackLost.__name__ in text:
        gpu_failure = re.findall(rf"{PackLost.__name__}: ({GPU_FAILED}.*)", text)
        reason = "the process of its pack died: it crashed, was killed, or its node was lost; see ray.log"
        return Death(gpu_failure[-1] if gpu_failure else reason, preempted=True, shared=True)
    if any(word in text for word in PREEMPTED):
        return Death("its node was lost", preempted=True)
    if "running low on memory" in text:
        return Death("its process was killed because the machine ran out of memory")
    if "ActorDiedError" in text or "died unexpectedly" in text:
        return Death("its process died: it crashed or was killed, perhaps because of too little memory; see ray.log")
    return Death(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "its process died"))
