"""Syne Tune's MO-ASHA as a searcher and a scheduler of Tune, for `simulate`; needs the package syne-tune."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from benchmarks.simulation.blackbox import domain
from benchmarks.simulation.curves import Curves


def moasha(curves: Curves, seed: int) -> tuple[Searcher, FIFOScheduler]:
    """Create MO-ASHA for a search: random settings, and successive halving by parameters and error.

    Args:
        curves: The table.
        seed: Random seed of the settings.

    Returns:
        The searcher and the scheduler. The first rung is after a third of a run, as in autorank.
    """
    from syne_tune.config_space import config_space_from_json_dict
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(seed)  # its domains draw from NumPy's global generator
    space = config_space_from_json_dict({name: domain(entry) for name, entry in curves.entry.space.items()})
    length = curves.evaluations
    scheduler = MOASHA(
        space, ["adapter_params", "error"], max_t=length, grace_period=max(1, length // 3), random_seed=seed
    )
    return _Searcher(scheduler), _Scheduler(scheduler)


class _Searcher(Searcher):
    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self._scheduler = scheduler

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self._scheduler.on_trial_add(SimpleNamespace(trial_id=trial_id))
        return dict(self._scheduler.suggest().config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the settings do not depend on results."""


class _Scheduler(FIFOScheduler):
    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self._scheduler = scheduler

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        values = {"adapter_params": result["adapter_params"], "error": 1 - result["score"]}
        decision = self._scheduler.on_trial_result(trial, result | values) if "score" in result else "CONTINUE"
        return TrialScheduler.STOP if decision == "STOP" else TrialScheduler.CONTINUE
