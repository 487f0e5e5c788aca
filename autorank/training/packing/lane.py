"""A run whose steps are taken together with those of other runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from autorank.modeling.base_model import BaseModel
from autorank.modeling.heads import Head
from autorank.spec import TaskSpec, TrainSpec
from autorank.tasks.definition import TaskData
from autorank.tasks.metrics.outcomes import Scores
from autorank.tasks.splits.tokenized import Split
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.forward_passes import ForwardPasses
from autorank.training.optimization.loop import MicroBatch
from autorank.training.optimization.rng import stream
from autorank.training.packing.packed_evaluation import LaneOutputs, RecordedPasses
from autorank.training.packing.packed_model import unpackable
from autorank.training.packing.shared_base import SharedBase
from autorank.training.run import TrainingRun

P = TypeVar("P", bound=ForwardPasses)


class SharingCache(ModelCache):
    """A model cache that gives each run a model of its own, which shares the frozen weights.

    Args:
        cache: Provides base model and data.

    Attributes:
        original: The base model whose weights are shared; None before the first run.
    """

    def __init__(self, cache: ModelCache) -> None:
        super().__init__(cache.device, cache.probes)
        self._cache = cache
        self.original: BaseModel | None = None

    @override
    def data(self, task: TaskSpec, model: str) -> TaskData:
        return self._cache.data(task, model)

    @override
    def fingerprint(self, model: str) -> str:
        return self._cache.fingerprint(model)

    @override
    def base(self, model: str, head: Head, outputs: int, dtype: torch.dtype, quantize: str | None = None) -> BaseModel:
        self.original = self._cache.base(model, head, outputs, dtype, quantize)
        self.eval_batch_size = self._cache.eval_batch_size
        return SharedBase.of(self.original)


class Lane(TrainingRun):
    """A run in a pack.

    Its method, optimizer, head, schedule, random numbers and evaluations are those of a run alone; its forward and
    backward passes come from the pack. Its state can be resumed alone, and that of a run alone as a lane.

    Args:
        spec: The specification of the run.
        cache: The pack's.

    Attributes:
        next_due: Number of steps at the next evaluation.
        reason_alone: Why the run takes its steps alone; None: it is packed.
        micro_batches: The micro-batches of the current step.
    """

    def __init__(self, spec: TrainSpec, cache: SharingCache) -> None:
        super().__init__(spec, cache)
        self.next_due = 0
        self.reason_alone: str | None = None
        self.micro_batches: list[MicroBatch] = []
        self._recorded: LaneOutputs | None = None

    def open(self, state: dict[str, Any] | None) -> None:
        """Start the run, or resume it.

        Args:
            state: The `state_dict` to resume from; None: start.
        """
        if state is not None:
            self.load_state_dict(state)
        self.start()
        self.next_due = self._due()
        self.reason_alone = unpackable(self.model)

    @property
    def model(self) -> nn.Module:
        """The run's model, with its adapters."""
        return self._base.model

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step == self.total_steps

    def begin_step(self) -> None:
        """Begin a step, perhaps again after a pass has failed."""
        self._begin_step()
        if not self.model.training:
            self.model.train()
        self.micro_batches, self._count = self._loop.micro_batches(self.step)
        self._losses_of_step: list[Tensor] = []

    def before_forward(self, batch: dict[str, Tensor], number: int) -> None:
        """Call the method's hook.

        Args:
            batch: The lane's inputs.
            number: Number of the micro-batch.
        """
        self._hooks.before_forward(batch, number, self._count)

    def loss(self, outputs: Any, labels: Tensor, number: int) -> Tensor:
        """Compute the loss of a micro-batch.

        Args:
            outputs: What the packed model returned for it.
            labels: Its labels.
            number: Number of the micro-batch.

        Returns:
            The scaled loss, a scalar; the gradients of a step are those of the sum of its micro-batches.
        """
        micro_batch = self.micro_batches[number]
        width = int(self._loop.split.lengths[micro_batch.examples].max())
        loss = self._objective.loss(self._objective.trim(outputs, width), labels)
        if len(self.micro_batches) > 1:
            loss = loss * micro_batch.weight
        self._losses_of_step.append(loss.detach())
        return self._loop.scaler.scale(loss)

    def update(self) -> None:
        """End a step: update the weights with the gradients of all micro-batches."""
        self._loop.update(self.step, self._hooks)
        loss = self._losses_of_step[0] if len(self._losses_of_step) == 1 else torch.stack(self._losses_of_step).sum()
        self._loop.check(self.step, loss)
        self._end_step(loss)

    def drop_gradients(self) -> None:
        """Delete all gradients, after a failed pass."""
        self.model.zero_grad(set_to_none=True)

    def trained_for(self, seconds: float) -> None:
        """Add the lane's share of the time of a step."""
        self._seconds += seconds

    @property
    def recordable(self) -> bool:
        """Whether the next evaluation can use recorded outputs."""
        return self.reason_alone is None and self._objective.outputs_suffice and self.step >= self.score_from

    @property
    def validation(self) -> Mapping[str, Split]:
        """The splits of an evaluation."""
        return self._data.validation

    @override
    def _scores(self) -> Scores:
        if self._recorded is None:
            return super()._scores()
        passes = self.passes(self.model, RecordedPasses)
        passes.recorded, self._recorded = self._recorded, None
        return self._objective.evaluate(passes, self._data.validation)

    def evaluate(self, recorded: LaneOutputs | None = None) -> Evaluation:
        """Evaluate the model, which is due.

        Args:
            recorded: The model's outputs; None: they are computed.

        Returns:
            The evaluation.
        """
        self._recorded = recorded
        with stream(self._model_cache.device, self.spec.training.seed, 0, self.step):
            evaluation = self._evaluate()
        if not self.finished:
            self.next_due = self._due()
        return evaluation

    def passes(self, model: nn.Module, kind: type[P]) -> P:
        """Create forward passes with the data and settings of this run.

        Args:
            model: The model.
            kind: Class of the result.

        Returns:
            The passes.
        """
        loop, plan = self._loop, self._loop.plan
        return kind(
            model, loop.split, loop.pad_id, self._objective, plan.precision, loop.device, loop.eval_batch_size,
            self._base.mask_form or "tokens",
        )  # fmt: skip
