"""Settings of an optimization loop."""

from __future__ import annotations

from dataclasses import dataclass

from autorank.spec import TrainingSpec
from autorank.tasks.definition import Task


@dataclass(frozen=True)
class Plan:
    """Settings of an `OptimizationLoop`, with all defaults filled in.

    Attributes:
        learning_rate: Peak learning rate.
        batch_size: Examples per optimizer step.
        accumulate: Micro-batches per optimizer step.
        epochs: Epochs over the examples.
        steps: Optimizer steps; takes precedence over `epochs`.
        warmup_ratio: Fraction of the steps in which the learning rate rises.
        weight_decay: Weight decay.
        max_grad_norm: Norm to which gradients are clipped.
        precision: fp32, bf16 or fp16.
        seed: Random seed.
    """

    learning_rate: float
    batch_size: int
    accumulate: int
    epochs: int
    steps: int | None
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    precision: str
    seed: int

    @classmethod
    def of(cls, spec: TrainingSpec, task: Task, learning_rate: float, accumulate: int, precision: str) -> Plan:
        """Create a plan.

        Args:
            spec: The training settings of a run.
            task: The task, which provides defaults.
            learning_rate: Peak learning rate.
            accumulate: Micro-batches per optimizer step.
            precision: fp32, bf16 or fp16.

        Returns:
            The plan.
        """
        return cls(
            learning_rate=learning_rate, batch_size=spec.batch_size or task.batch_size, accumulate=accumulate,
            epochs=spec.epochs or task.epochs, steps=spec.steps, warmup_ratio=spec.warmup_ratio,
            weight_decay=spec.weight_decay, max_grad_norm=spec.max_grad_norm, precision=precision, seed=spec.seed,
        )  # fmt: skip
