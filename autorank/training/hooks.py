"""What happens around a step: nothing in a probe, a method's hooks in a run."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autorank.method import AllocationMethod
from autorank.run_context import RunContext


class Hooks:
    """What happens around a step; nothing, unless a method's hooks are put here."""

    def before_forward(self, batch: dict[str, Tensor], micro_batch: int, micro_batches: int) -> None: ...

    def penalty(self) -> Tensor | None:
        return None

    def before_step(self) -> None: ...

    def after_step(self) -> None: ...


class MethodHooks(Hooks):
    """A method's hooks, bound to its run."""

    def __init__(self, method: AllocationMethod[Any], run: RunContext) -> None:
        self.method, self.run = method, run

    def before_forward(self, batch: dict[str, Tensor], micro_batch: int, micro_batches: int) -> None:
        self.run.batch, self.run.micro_batch, self.run.micro_batches = batch, micro_batch, micro_batches
        self.method.before_forward(self.run)

    def penalty(self) -> Tensor | None:
        return self.method.penalty(self.run)

    def before_step(self) -> None:
        self.method.before_step(self.run)

    def after_step(self) -> None:
        self.method.after_step(self.run)
