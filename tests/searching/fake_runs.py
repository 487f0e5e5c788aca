"""Runs that train nothing, and fail as planned by trial number."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from autorank.searching.ray.actors.trainable import WarmTrial
from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec, TrainSpec
from autorank.training.evaluation import Evaluation
from tests.trials.trial_factories import evaluation

STEPS = 3  # evaluations of a run


SPACE = {
    "rank": {"type": "int", "low": 1, "high": 64},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}


def search_spec(name: str = "standin", *methods: str, **values: Any) -> SearchSpec:
    """Return a search of LoRA's rank and learning rate (or of `methods` in the same space) without a baseline."""
    entries = tuple(MethodSpec(method=method, space=SPACE) for method in methods or ("lora",))
    training = TrainingSpec(accumulate=1)  # a whole step, which trials that run out of memory halve
    return SearchSpec(
        **{"name": name, "task": TaskSpec(name="demo"), "methods": entries, "training": training} | values
    )


def bounds(method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return the range of parameters: a fake run has as many as its rank."""
    return settings["rank"], settings["rank"]


class FakeRun:
    """A run that evaluates at once: its parameters are the rank, its score grows with rank and step."""

    total_steps = STEPS

    def __init__(self, train: TrainSpec, plan: str, killed: Path) -> None:
        self.rank, self.plan, self.step = train.settings["rank"], plan, 0
        self.accumulate, self.killed = train.training.accumulate, killed

    def __next__(self) -> Evaluation:
        if self.step == STEPS:
            raise StopIteration
        self.step += 1
        if self.plan == "raises" and self.step == 2:
            raise RuntimeError("the run broke")
        if self.plan == "dies" and self.step == 2:
            os._exit(1)
        if self.plan == "dies once" and self.step == 2 and not self.killed.exists():
            self.killed.touch()
            os._exit(1)
        if self.plan == "memory" and self.step == 2 and self.accumulate == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.plan == "slow":
            time.sleep(0.5)
        if self.plan == "stuck" and self.step == 2:
            time.sleep(3600)
        result = evaluation(self.step, self.rank, 0.5 + self.rank / 200 + self.step / 1000)
        result.metrics["pid"] = os.getpid()
        return replace(result, score={"nan": float("nan"), "weak": 0.1}.get(self.plan, result.score))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]

    def save_adapter(self, path: Path) -> None:
        if self.plan == "full":
            raise OSError(28, "No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{self.rank} {self.step}")

    def release(self) -> None:
        pass


class FakeTrial(WarmTrial):
    """A trial whose failure is in `plans` by trial number; `None` stands for all other trials."""

    plans: ClassVar[dict[int | None, str]] = {}

    def open_run(self) -> Any:
        plan = self.plans.get(self.number, self.plans.get(None, ""))
        return FakeRun(self.spec, plan, self.folder / f"killed-{self.number}")
