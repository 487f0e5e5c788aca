"""The optimization loop: a number of steps over a set of examples. A run has one, LoRA-drop's probe another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autorank.errors import DIVERGED, AutorankError
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.forward.attention_masks import Form
from autorank.tasks.data.batches import epoch_batches, eval_batches
from autorank.tasks.splits.tokenized import Split
from autorank.training.eval_batch_size import EvalBatchSize
from autorank.training.objectives.base import Objective
from autorank.training.optimization import distributed
from autorank.training.optimization.forward_passes import ForwardPasses
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.optimizer import GroupedAdamW
from autorank.training.optimization.plan import Plan
from autorank.training.optimization.rng import stream

CHECK_EVERY = 20  # steps between checks of the loss; each check waits for the GPU


@dataclass(frozen=True)
class MicroBatch:
    """A part of a step's examples.

    Attributes:
        examples: Indices in the split.
        weight: Factor of the mean loss of the examples in the loss of the step.
    """

    examples: np.ndarray
    weight: float


class OptimizationLoop(ForwardPasses):
    """Trains a model on examples of a split.

    Args:
        model: The model.
        split: The split.
        examples: Indices of the examples in the split.
        pad_id: Id of the padding token.
        objective: The task's objective.
        plan: Settings of the loop.
        device: Device of the model.
        eval_batch_size: Batch size of passes without gradients; a new one by default.
        mask_form: Form in which the model takes attention masks.
    """

    def __init__(
        self, model: nn.Module, split: Split, examples: np.ndarray, pad_id: int, objective: Objective, plan: Plan,
        device: torch.device, eval_batch_size: EvalBatchSize | None = None, mask_form: Form = "tokens",
    ) -> None:  # fmt: skip
        super().__init__(model, split, pad_id, objective, plan.precision, device, eval_batch_size, mask_form)
        self.plan = plan
        self._examples = examples
        self.steps_per_epoch = math.ceil(len(examples) / plan.batch_size)
        self.total_steps = plan.steps or plan.epochs * self.steps_per_epoch
        self.warmup_steps = math.ceil(plan.warmup_ratio * self.total_steps)
        self.optimizer = GroupedAdamW(plan.learning_rate, plan.weight_decay, self.total_steps, self.warmup_steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")
        self._epoch: tuple[int, list[np.ndarray]] | None = None

    def train_rest(self) -> None:
        """Add all trained parameters without a group to the optimizer."""
        grouped = set(self.optimizer.parameters)
        ungrouped = {n: p for n, p in self.model.named_parameters() if p.requires_grad and p not in grouped}
        self.optimizer.add_group(ungrouped)

    def train(self, stream_name: str) -> None:
        """Take all steps, without a method, with random numbers of their own.

        Args:
            stream_name: Name of the stream of random numbers.
        """
        self.train_rest()
        with stream(self.device, self.plan.seed, distributed.rank(), stream_name):
            for step in range(self.total_steps):
                self.step(step, Hooks())

    def batch(self, step: int) -> np.ndarray:
        """Return the indices of a step's examples; they depend only on its number, so a run can resume anywhere."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            lengths = self.split.lengths[self._examples]
            self._epoch = epoch, epoch_batches(lengths, self.plan.batch_size, self.plan.seed, epoch)
        examples: np.ndarray = self._examples[self._epoch[1][position]]
        return examples

    def step(self, step: int, hooks: Hooks) -> Tensor:
        """Run one optimizer step.

        Args:
            step: Number of the step, from 0.
            hooks: Hooks of the step.

        Returns:
            The mean loss without the penalty, a scalar on the device.

        Raises:
            AutorankError: Training diverged.
        """
        if not self.model.training:
            self.model.train()
        total = torch.zeros((), device=self.device)
        micro_batches, count = self.micro_batches(step)
        for i, micro_batch in enumerate(micro_batches):
            inputs = self.inputs(micro_batch.examples)
            hooks.before_forward(inputs, i, count)
            with self.prepared():
                loss = self.loss(inputs) * micro_batch.weight
                total += loss.detach()
                self.scaler.scale(loss).backward()
        self.update(step, hooks)
        distributed.sum_(total)
        self.check(step, total)
        return total

    def micro_batches(self, step: int) -> tuple[list[MicroBatch], int]:
        """Divide a step's examples.

        Args:
            step: Number of the step.

        Returns:
            The micro-batches of this worker, and their number: 0 for a worker without examples, which takes part with
            an example of weight 0, because the others wait for it.
        """
        batch, weights = self.batch(step), self.split.weights
        shard = np.array_split(batch, distributed.count())[distributed.rank()]
        if not len(shard):
            return [MicroBatch(batch[:1], 0.0)], 0
        parts = np.array_split(shard, min(self.plan.accumulate, len(shard)))
        return [MicroBatch(part, float(weights[part].sum() / weights[batch].sum())) for part in parts], len(parts)

    def update(self, step: int, hooks: Hooks) -> None:
        """Update the weights once the gradients of all micro-batches are summed.

        Args:
            step: Number of the step.
            hooks: Hooks of the step.
        """
        trained = list(self.optimizer.parameters)
        penalty = hooks.penalty()
        if penalty is not None:
            add_gradients(self.scaler.scale(penalty / distributed.count()), trained)
        distributed.sum_gradients(trained)
        self.optimizer.unscale(self.scaler)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.plan.max_grad_norm)
        # in fp16 a step whose gradients overflow is skipped, and the method's hooks with it
        finite = not self.scaler.is_enabled() or bool(norm.isfinite())
        if finite:
            hooks.before_step()
            self.optimizer.step(step)
            hooks.after_step()
        self.scaler.update()
        self.optimizer.zero_grad()

    def check(self, step: int, loss: Tensor) -> None:
        """Check every `CHECK_EVERY` steps that the loss of a step is finite.

        Raises:
            AutorankError: It is not.
        """
        if step % CHECK_EVERY == 0 and not math.isfinite(loss.item()):
            raise self.diverged(f"the loss is {loss.item()} at step {step + 1}")

    def diverged(self, reason: str) -> AutorankError:
        """Create the error for a loss that is not finite."""
        return AutorankError(f"{DIVERGED}{reason}. Use a lower learning_rate (now {self.plan.learning_rate:g}).")

    def gradients(self, examples: np.ndarray) -> dict[str, Tensor]:
        """Compute gradients of the weighted sum of losses, in evaluation mode, summed over the workers.

        Losses are not scaled for fp16, since a sum over examples is large enough. The batch size is that of a
        micro-batch.

        Args:
            examples: Indices of the examples in the split.

        Returns:
            Name -> gradient of each trained parameter.
        """
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        shard, weights = np.array_split(examples, distributed.count())[distributed.rank()], self.split.weights
        size = math.ceil(math.ceil(self.plan.batch_size / distributed.count()) / self.plan.accumulate)
        with gradient_checkpointing.evaluating(self.model):
            for part in eval_batches(self.split.lengths[shard], size):
                (self.loss(self.inputs(shard[part])) * weights[shard[part]].sum()).backward()
        distributed.sum_gradients(list(trained.values()))
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}
        for parameter in trained.values():
            parameter.grad = None
        return gradients


def add_gradients(value: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of a scalar to those of parameters, in one call for all."""
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    summed = [(p.grad, g) for p, g in pairs if p.grad is not None]
    if summed:
        torch._foreach_add_([before for before, _ in summed], [g for _, g in summed])
    for parameter, gradient in pairs:
        if parameter.grad is None:
            parameter.grad = gradient
