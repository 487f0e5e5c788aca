"""Summary of a run before its first step, for displays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from autorank import tasks
from autorank.spec import TrainSpec
from autorank.tasks.definition import TaskData
from autorank.tasks.named.generation import OWN_MODEL, OWN_MODEL_LICENSE


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run before its first step.

    Attributes:
        data: The task's data.
        steps: Optimizer steps of the run.
        trained: Parameters that are trained from the start, including the head.
        device: Device of the run.
        precision: fp32, bf16 or fp16.
        warnings: Sentences about the data and the adapted layers.
    """

    data: TaskData
    steps: int
    trained: int
    device: torch.device
    precision: str
    warnings: list[str]


def title(spec: TrainSpec) -> str:
    """Return a title with method, task and base model: of a directory its name, of the default one its license too."""
    model = tasks.base_model(spec.task, spec.model)
    base = Path(model).name if Path(model).is_dir() else model
    if model == OWN_MODEL:
        base += f" ({OWN_MODEL_LICENSE})"
    return f"{spec.method} on {spec.task.name}, base model {base}"
