"""Hooks of an optimizer step: those of a method in a run, none in a probe."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.run_context import RunContext


class Hooks:
    """Hooks of an optimizer step that do nothing."""

    def before_forward(self, batch: dict[str, Tensor], micro_batch: int, micro_batches: int) -> None:
        """Called before the forward pass of a micro-batch.

        Args:
            batch: The inputs of the model.
            micro_batch: Number of the micro-batch in the step, from 0.
            micro_batches: Micro-batches of the step on this worker; 0: the worker has no examples in this step.
        """

    def most_memory(self, batch: dict[str, Tensor], micro_batches: int) -> AbstractContextManager[None]:
        """Context for a pass that uses the peak memory of any step and has no lasting effect."""
        return nullcontext()

    def penalty(self) -> Tensor | None:
        """Return a term that is added to the loss, or None."""
        return None

    def before_step(self) -> None:
        """Called before the weights are updated."""

    def after_step(self) -> None:
        """Called after the weights were updated."""


class MethodHooks(Hooks):
    """Hooks of a method.

    Args:
        method: The method.
        run: The run, which the hooks receive.
    """

    def __init__(self, method: AllocationMethod[Any], run: RunContext) -> None:
        self.method, self.run = method, run

    @override
    def before_forward(self, batch: dict[str, Tensor], micro_batch: int, micro_batches: int) -> None:
        self.run.batch, self.run.micro_batch, self.run.micro_batches = batch, micro_batch, micro_batches
        self.method.before_forward(self.run)

    @override
    def most_memory(self, batch: dict[str, Tensor], micro_batches: int) -> AbstractContextManager[None]:
        self.run.batch, self.run.micro_batch, self.run.micro_batches = batch, 0, micro_batches
        return self.method.most_memory(self.run)

    @override
    def penalty(self) -> Tensor | None:
        return self.method.penalty(self.run)

    @override
    def before_step(self) -> None:
        self.method.before_step(self.run)

    @override
    def after_step(self) -> None:
        self.method.after_step(self.run)
