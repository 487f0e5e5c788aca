"""What each kind of task minimises, and how a model is scored on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from autorank.tasks.data.batches import eval_batches
from autorank.tasks.definition import Split, Task, TaskData
from autorank.tasks.metrics import labels as label_metrics

if TYPE_CHECKING:
    from autorank.training.optimization_loop import Phase

EVAL_BATCH = 64  # examples, fewer if memory runs out; results do not depend on it


class Objective(Protocol):
    """One kind of task."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Mean loss of a micro-batch in float32, by the examples' `weights`. outputs: what the model returned."""

    def evaluate(self, phase: Phase, splits: Mapping[str, Split]) -> dict[str, float]:
        """The task's metrics on its validation splits, the score first."""


def of(data: TaskData) -> Objective:
    """The objective of a task."""
    if data.task.kind == "span":
        from autorank.training.objectives.spans import Spans

        return Spans(data)
    if data.task.kind == "generation":
        from autorank.training.objectives.generation import Generation

        return Generation(data)
    return Classification(data.task) if data.task.kind == "classification" else Regression(data.task)


class Classification:
    """Cross-entropy over the classes."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """logits: batch x classes; labels: batch."""
        return F.cross_entropy(outputs.logits.float(), labels)

    def evaluate(self, phase: Phase, splits: Mapping[str, Split]) -> dict[str, float]:
        """As `metrics.compute`."""
        logits = [phase.predict(split, eval_batches(split.lengths, EVAL_BATCH)) for split in splits.values()]
        labels = np.concatenate([split.labels for split in splits.values()])
        sizes = {name: len(split) for name, split in splits.items()}
        return label_metrics.compute(self.task, np.concatenate(logits), labels, sizes)


class Regression(Classification):
    """Mean squared error."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """logits: batch x 1; labels: batch."""
        return F.mse_loss(outputs.logits.squeeze(-1).float(), labels)
