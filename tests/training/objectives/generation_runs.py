"""Runs of tiny models on text generation tasks, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.objectives.generation import GenerationObjective
from autorank.training.run import TrainingRun
from tests import tiny_language_models

METHODS = {
    "lora-drop": {"rank": 4, "threshold": 0.6, "probe_ratio": 0.3},
    "prilora": {"mean_rank": 2, "slope": 0, "interval": 4},
    "increlora": {"mean_rank": 2, "top_h": 4, "components": 2, "interval": 2},
}


def model(workspace: Path, family: str) -> str:
    folder = workspace / family
    return str(folder) if folder.exists() else tiny_language_models.model(family, folder)


def spec(
    workspace: Path, family: str, method: str = "lora", settings: dict[str, Any] | None = None,
    metric: str | None = "rougeL", **overrides: Any,
) -> TrainSpec:  # fmt: skip
    training = {"steps": 12, "batch_size": 16, "eval_every": 100, "precision": "fp32"}
    common = {"targets": "all-linear", "learning_rate": 1e-2}
    return TrainSpec(
        task=TaskSpec(name="keys", data=workspace / "data", prompt="asked", completion="told", metric=metric),
        model=model(workspace, family),
        method=method,
        settings=common | (settings or METHODS.get(method) or {"rank": 8}),
        training=TrainingSpec(**training | overrides),
    )


def start(train_spec: TrainSpec, probes: Path | None = None) -> TrainingRun:
    return TrainingRun(train_spec, ModelCache("cpu", probes))


def objective_and_prompts(run: TrainingRun) -> tuple[GenerationObjective, Any]:
    """The objective and the distinct prompts of the validation split."""
    assert isinstance(run._objective, GenerationObjective)
    return run._objective, run._data.validation["validation"].grouped()
