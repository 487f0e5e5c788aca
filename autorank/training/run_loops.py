"""The optimization loops of a run: its own, and those of its method's probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from autorank.modeling.base_model import BaseModel
from autorank.tasks.data.batches import eval_batches
from autorank.tasks.definition import TaskData
from autorank.training.model_cache import ModelCache
from autorank.training.objectives.base import EVAL_BATCH, Objective
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.optimization.plan import Plan


class RunLoops:
    """Creates the loops of a run.

    Args:
        base: The base model.
        data: The task's data.
        objective: The task's objective.
        model_cache: Holds device and evaluation batch size.
        plan: The plan of the run.

    Attributes:
        main: The loop of the run itself, with all training examples.
    """

    def __init__(
        self, base: BaseModel, data: TaskData, objective: Objective, model_cache: ModelCache, plan: Plan
    ) -> None:
        self._base, self._data, self._objective, self._model_cache = base, data, objective, model_cache
        self.main = self._loop(np.arange(len(data.train)), plan)

    def train_on(self, examples: np.ndarray, epochs: int) -> None:
        """Train in a separate loop with its own random numbers (`RunContext.train_on`)."""
        self._loop(examples, replace(self.main.plan, epochs=epochs, steps=None)).train("train_on")

    def observe(self, examples: np.ndarray, before: Callable[[dict[str, Tensor]], None]) -> None:
        """Pass examples through the model (`RunContext.observe`).

        Args:
            examples: Indices of training examples.
            before: Called with each batch before its forward pass.
        """
        lengths = self._data.train.lengths[examples]
        size = max(1, EVAL_BATCH // self.main.plan.accumulate)  # split like a step, which saves memory
        batches = [examples[i] for i in eval_batches(lengths, size)]
        for outputs in self.main.outputs(self._data.train, batches, before):
            del outputs  # see `EvalBatchSize.map`

    def _loop(self, examples: np.ndarray, plan: Plan) -> OptimizationLoop:
        return OptimizationLoop(
            self._base.model, self._data.train, examples, self._data.pad_id, self._objective, plan,
            self._model_cache.device, self._model_cache.eval_batch_size, self._base.mask_form or "tokens",
        )  # fmt: skip
