"""What a run is about to do, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from autorank import tasks
from autorank.spec import TrainSpec
from autorank.tasks.definition import TaskData


@dataclass(frozen=True)
class RunSummary:
    """What a run is about to do.

    Attributes:
        data: The task with its splits.
        steps: Optimizer steps.
        trained: Number of parameters, of the head too, that train from the start.
        device: Device of the model.
        precision: Data type of the frozen weights.
        warnings: Sentences about the data and the adapted layers.
    """

    data: TaskData
    steps: int
    trained: int
    device: torch.device
    precision: str
    warnings: list[str]


def title(spec: TrainSpec) -> str:
    """Method, task and base model; of a folder, the name."""
    model = tasks.base_model(spec.task, spec.model)
    base = Path(model).name if Path(model).is_dir() else model
    return f"{spec.method} on {spec.task.name}, base model {base}"
