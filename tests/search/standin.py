"""Runs that train nothing: what a trial does is told by its learning rate's place among `PLANS`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from autorank.results.records import Evaluation
from autorank.search.trainable import WarmTrial
from autorank.spec import SearchSpec, TaskSpec, TrainSpec
from tests.results.made_trials import evaluation

STEPS = 3  # evaluations of a run


def search_spec(name: str = "standin", **values: Any) -> SearchSpec:
    space = {
        "rank": {"type": "int", "low": 1, "high": 64},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    }
    known = {"name": name, "train": TrainSpec(task=TaskSpec(name="demo"), method="lora"), "space": space}
    return SearchSpec(**known | values)


class StandInRun:
    """Evaluates at once: parameters are the rank, the score grows with rank and step."""

    total_steps = STEPS

    def __init__(self, settings: dict[str, Any], plan: str = "") -> None:
        self.rank, self.plan, self.step = settings["rank"], plan, 0

    def __next__(self) -> Evaluation:
        if self.step == STEPS:
            raise StopIteration
        self.step += 1
        if self.plan == "raises" and self.step == 2:
            raise RuntimeError("the run broke")
        if self.plan == "dies":
            os._exit(1)
        if self.plan == "slow":
            time.sleep(0.5)
        if self.plan == "stuck" and self.step == 2:
            time.sleep(3600)
        made = evaluation(self.step, self.rank, 0.5 + self.rank / 200 + self.step / 1000)
        made.metrics["pid"] = os.getpid()
        return replace(made, score=float("nan")) if self.plan == "nan" else made

    def save_adapter(self, path: Path) -> None:
        if self.plan == "full":
            raise OSError(28, "No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{self.rank} {self.step}")

    def release(self) -> None:
        pass


class StandInTrial(WarmTrial):
    """`plans`: trial number -> what goes wrong with it; `None` is for all others."""

    plans: ClassVar[dict[int | None, str]] = {}

    def open_run(self) -> Any:
        return StandInRun(self.settings, self.plans.get(self.number, self.plans.get(None, "")))
