"""A phase of training: so many steps over some of the examples. A run is one phase; LoRA-drop's probe is another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling import gradient_checkpointing
from autorank.spec import TrainingSpec
from autorank.tasks.data.batches import collate, epoch_batches, eval_batches
from autorank.tasks.definition import Task
from autorank.tasks.splits import Split
from autorank.training import distributed
from autorank.training.eval_batch_size import EvalBatchSize
from autorank.training.hooks import Hooks
from autorank.training.objectives.base import EVAL_BATCH, Objective
from autorank.training.optimizer import GroupedAdamW

CHECK_EVERY = 20  # steps between looks at the loss; each look waits for the GPU


@dataclass(frozen=True)
class Plan:
    """How a phase is trained, with every default filled in."""

    learning_rate: float
    batch_size: int  # examples an optimizer step
    accumulate: int  # micro-batches an optimizer step
    epochs: int
    steps: int | None  # overrides epochs
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    precision: str  # fp32, bf16 or fp16
    seed: int

    @classmethod
    def of(cls, asked: TrainingSpec, task: Task, learning_rate: float, accumulate: int, precision: str) -> Plan:
        """What was asked for, and the task's own values for the rest."""
        return cls(
            learning_rate=learning_rate, batch_size=asked.batch_size or task.batch_size, accumulate=accumulate,
            epochs=asked.epochs or task.epochs, steps=asked.steps, warmup_ratio=asked.warmup_ratio,
            weight_decay=asked.weight_decay, max_grad_norm=asked.max_grad_norm, precision=precision, seed=asked.seed,
        )  # fmt: skip


class OptimizationLoop:
    """The optimisation of `model` over `examples` of `split` by `plan`.

    Args:
        examples: indices into the split.
        objective: what is minimised.
        eval_batch_size: for passes without gradients.
    """

    def __init__(
        self, model: nn.Module, split: Split, examples: np.ndarray, pad_id: int, objective: Objective, plan: Plan,
        device: torch.device, eval_batch_size: EvalBatchSize | None = None,
    ) -> None:  # fmt: skip
        self.eval_batch_size = eval_batch_size or EvalBatchSize()
        self.model, self.split, self.pad_id, self.plan, self.device = model, split, pad_id, plan, device
        self._examples = examples
        self.objective = objective
        self.steps_per_epoch = math.ceil(len(examples) / plan.batch_size)
        self.total_steps = plan.steps or plan.epochs * self.steps_per_epoch
        self.warmup_steps = math.ceil(plan.warmup_ratio * self.total_steps)
        self.optimizer = GroupedAdamW(plan.learning_rate, plan.weight_decay, self.total_steps, self.warmup_steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")
        self._epoch: tuple[int, list[np.ndarray]] | None = None

    def train_rest(self) -> None:
        """Give a group to all that trains and has none yet."""
        grouped = set(self.optimizer.parameters)
        rest = {n: p for n, p in self.model.named_parameters() if p.requires_grad and p not in grouped}
        self.optimizer.add_group(rest)

    def batch(self, step: int) -> np.ndarray:
        """The examples of this step: known from the step alone, so a run can go on anywhere. indices: batch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            lengths = self.split.lengths[self._examples]
            self._epoch = epoch, epoch_batches(lengths, self.plan.batch_size, self.plan.seed, epoch)
        examples: np.ndarray = self._examples[self._epoch[1][position]]
        return examples

    def step(self, step: int, hooks: Hooks) -> Tensor:
        """One optimizer step; returns its mean training loss, penalty left out, as a scalar on the device."""
        self.model.train()
        batch = self.batch(step)
        total = torch.zeros((), device=self.device)
        mine = np.array_split(batch, distributed.count())[distributed.rank()]
        parts = np.array_split(mine, min(self.plan.accumulate, len(mine))) if len(mine) else []
        weights = self.split.weights
        # a worker without examples goes along with one that has no weight, for the others wait for it
        for i, examples in enumerate(parts or [batch[:1]]):
            inputs = to_device(collate(self.split, examples, self.pad_id), self.device)
            hooks.before_forward(inputs, i, len(parts))
            loss = self.loss(inputs) * (weights[examples].sum() / weights[batch].sum() if parts else 0.0)
            total += loss.detach()
            self.scaler.scale(loss).backward()
        penalty = hooks.penalty()
        if penalty is not None:
            self.scaler.scale(penalty / distributed.count()).backward()
        trained = list(self.optimizer.parameters)
        distributed.sum_gradients(trained)
        self.optimizer.unscale(self.scaler)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.plan.max_grad_norm)
        # in fp16 a step whose gradients overflow is skipped: there is nothing for a method to see
        sound = not self.scaler.is_enabled() or bool(norm.isfinite())
        if sound:
            hooks.before_step()
            self.optimizer.step(step)
            hooks.after_step()
        self.scaler.update()
        self.optimizer.zero_grad()
        distributed.sum_(total)
        if step % CHECK_EVERY == 0 and not math.isfinite(total.item()):
            raise self.diverged(f"the loss is {total.item()} at step {step + 1}")
        return total

    def diverged(self, what: str) -> AutorankError:
        """What to raise where a loss is not finite."""
        return AutorankError(f"Training diverged: {what}. Use a lower learning_rate (now {self.plan.learning_rate:g}).")

    def gradients(self, examples: np.ndarray) -> dict[str, Tensor]:
        """Gradients of the sum of these examples' losses by their weights, in evaluation mode, summed over the workers.

        examples: indices into the split -> name -> gradient, of all parameters that require one. No loss is scaled
        (fp16): a sum over examples is large enough. As many pass at once as in a micro-batch of training.
        """
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        mine, weights = np.array_split(examples, distributed.count())[distributed.rank()], self.split.weights
        size = math.ceil(math.ceil(self.plan.batch_size / distributed.count()) / self.plan.accumulate)
        with gradient_checkpointing.evaluating(self.model):
            for part in eval_batches(self.split.lengths[mine], size):
                batch = to_device(collate(self.split, mine[part], self.pad_id), self.device)
                (self.loss(batch) * weights[mine[part]].sum()).backward()
        distributed.sum_gradients(list(trained.values()))
        found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}
        for parameter in trained.values():
            parameter.grad = None
        return found

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean loss of a batch, in float32."""
        labels = batch.pop("labels")
        with self.autocast():
            outputs = self.model(**batch)
        return self.objective.loss(outputs, labels)

    @torch.no_grad()
    def mean_loss(self, splits: Mapping[str, Split]) -> float:
        """Mean loss over all examples of some splits by their weights, in evaluation mode."""
        self.model.eval()
        total = weight = 0.0
        for split in splits.values():

            def loss(examples: np.ndarray, split: Split = split) -> Tensor:
                return self.loss(to_device(collate(split, examples, self.pad_id), self.device))

            for examples, mean in self.eval_batch_size.each(eval_batches(split.lengths, EVAL_BATCH), loss):
                total += mean.item() * split.weights[examples].sum()
                weight += split.weights[examples].sum()
        return float(total / weight)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision in which the model computes."""
        dtype = torch.float16 if self.plan.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.plan.precision != "fp32")

    def outputs(
        self, split: Split, batches: list[np.ndarray], before: Callable[[dict[str, Tensor]], None] | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """What the model returns in evaluation mode for each batch, with the batch's examples.

        Args:
            batches: indices into the split; one that is too much for memory is halved, unless there is `before`.
            before: sees each batch before its forward pass.
        """
        self.model.eval()

        @torch.no_grad()  # around the generator it would keep what it gave last (see `EvalBatchSize.each`)
        def run(examples: np.ndarray) -> Any:
            batch = to_device(collate(split, examples, self.pad_id), self.device)
            batch.pop("labels")
            if before:
                before(batch)
            with self.autocast():
                return self.model(**batch)

        # who looks into the layers would see again what had passed before memory ran out
        yield from (
            ((examples, run(examples)) for examples in batches) if before else self.eval_batch_size.each(batches, run)
        )

    def predict(self, split: Split, batches: list[np.ndarray]) -> np.ndarray:
        """Logits in evaluation mode, in the split's order.

        batches: indices into the split, covering what is wanted -> examples x outputs (rows not covered are NaN).
        """
        logits = None
        for examples, outputs in self.outputs(split, batches):
            rows = outputs.logits.float().cpu().numpy()
            if logits is None:
                logits = np.full((len(split), rows.shape[1]), np.nan, dtype=np.float32)
            logits[examples] = rows
            del outputs  # see `EvalBatchSize.each`
        assert logits is not None, "no batches"
        return logits


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on the device; copies to a GPU do not wait."""
    if device.type == "cpu":
        return batch
    return {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.items()}
