"""A training phase: a number of steps over a set of examples. A run is one phase, LoRA-drop's probe another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.forward.attention_masks import MASK, Form, additive, find_form
from autorank.modeling.layers.prepared_factors import prepared
from autorank.tasks.data.batches import collate, epoch_batches, eval_batches
from autorank.tasks.splits.tokenized import Split
from autorank.training.eval_batch_size import EvalBatchSize
from autorank.training.objectives.base import EVAL_BATCH, Objective
from autorank.training.optimization import distributed
from autorank.training.optimization.hooks import Hooks
from autorank.training.optimization.optimizer import GroupedAdamW
from autorank.training.optimization.plan import Plan

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast, by precision
CHECK_EVERY = 20  # steps between checks of the loss; each check waits for the GPU


class OptimizationLoop:
    """Trains a model on examples of a split.

    Args:
        model: the model.
        split: the split.
        examples: indices of the examples in the split.
        pad_id: id of the padding token.
        objective: the task's objective.
        plan: settings of the phase.
        device: device of the model.
        eval_batch_size: batch size of passes without gradients; a new one by default.
        mask_form: form in which the model takes attention masks.
    """

    def __init__(
        self, model: nn.Module, split: Split, examples: np.ndarray, pad_id: int, objective: Objective, plan: Plan,
        device: torch.device, eval_batch_size: EvalBatchSize | None = None, mask_form: Form = "tokens",
    ) -> None:  # fmt: skip
        self.eval_batch_size = eval_batch_size or EvalBatchSize()
        self._mask_form = mask_form
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
        """Add all trained parameters without a group to the optimizer."""
        grouped = set(self.optimizer.parameters)
        rest = {n: p for n, p in self.model.named_parameters() if p.requires_grad and p not in grouped}
        self.optimizer.add_group(rest)

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
            step: number of the step, from 0.
            hooks: hooks of the step.

        Returns:
            The mean loss without the penalty, a scalar on the device.

        Raises:
            AutorankError: training diverged.
        """
        if not self.model.training:
            self.model.train()
        batch = self.batch(step)
        total = torch.zeros((), device=self.device)
        shard = np.array_split(batch, distributed.count())[distributed.rank()]
        parts = np.array_split(shard, min(self.plan.accumulate, len(shard))) if len(shard) else []
        weights = self.split.weights
        # a worker without examples takes part with an example of weight 0, because the others wait for it
        for i, examples in enumerate(parts or [batch[:1]]):
            inputs = to_device(collate(self.split, examples, self.pad_id), self.device)
            hooks.before_forward(inputs, i, len(parts))
            with self.prepared():
                loss = self.loss(inputs) * (weights[examples].sum() / weights[batch].sum() if parts else 0.0)
                total += loss.detach()
                self.scaler.scale(loss).backward()
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
        distributed.sum_(total)
        if step % CHECK_EVERY == 0 and not math.isfinite(total.item()):
            raise self.diverged(f"the loss is {total.item()} at step {step + 1}")
        return total

    def diverged(self, reason: str) -> AutorankError:
        """Create the error for a loss that is not finite."""
        return AutorankError(
            f"Training diverged: {reason}. Use a lower learning_rate (now {self.plan.learning_rate:g})."
        )

    def gradients(self, examples: np.ndarray) -> dict[str, Tensor]:
        """Compute gradients of the weighted sum of losses, in evaluation mode, summed over the workers.

        Losses are not scaled for fp16, since a sum over examples is large enough. The batch size is that of a
        micro-batch.

        Args:
            examples: indices of the examples in the split.

        Returns:
            Name -> gradient of each trained parameter.
        """
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        shard, weights = np.array_split(examples, distributed.count())[distributed.rank()], self.split.weights
        size = math.ceil(math.ceil(self.plan.batch_size / distributed.count()) / self.plan.accumulate)
        with gradient_checkpointing.evaluating(self.model):
            for part in eval_batches(self.split.lengths[shard], size):
                batch = to_device(collate(self.split, shard[part], self.pad_id), self.device)
                (self.loss(batch) * weights[shard[part]].sum()).backward()
        distributed.sum_gradients(list(trained.values()))
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}
        for parameter in trained.values():
            parameter.grad = None
        return gradients

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch, which includes labels, in float32."""
        labels = batch.pop("labels")
        return self.objective.loss(self._forward(batch), labels)

    @torch.no_grad()
    def find_mask_form(self) -> Form:
        """The form in which the model takes attention masks, found with the two shortest examples that differ."""
        lengths, shortest = np.unique(self.split.lengths, return_index=True)
        if len(lengths) < 2:
            return "tokens"
        batch = to_device(collate(self.split, shortest[:2], self.pad_id), self.device)
        batch.pop("labels")
        self.model.eval()
        with self.autocast():
            return find_form(self.model, batch, DTYPES[self.plan.precision] or torch.float32)

    def _forward(self, batch: dict[str, Tensor]) -> Any:
        """What the model returns for a batch without labels."""
        if self._mask_form != "tokens":
            dtype = DTYPES[self.plan.precision] or torch.float32
            batch = batch | {MASK: additive(batch[MASK], self._mask_form, dtype)}
        with self.autocast():
            return self.model(**batch)

    @torch.no_grad()
    def mean_loss(self, splits: Mapping[str, Split]) -> float:
        """Return the weighted mean loss over all examples of some splits, in evaluation mode."""
        self.model.eval()
        total = weight = 0.0
        for split in splits.values():

            def loss(examples: np.ndarray, split: Split = split) -> Tensor:
                return self.loss(to_device(collate(split, examples, self.pad_id), self.device))

            with self.prepared():
                for examples, mean in self.eval_batch_size.map(eval_batches(split.lengths, EVAL_BATCH), loss):
                    total += mean.item() * split.weights[examples].sum()
                    weight += split.weights[examples].sum()
        return float(total / weight)

    def prepared(self) -> AbstractContextManager[None]:
        """A context in which the weights stand still, and the factors of all updates are prepared for passes."""
        return prepared((layer.update for layer in adapters.adapted(self.model).values()), DTYPES[self.plan.precision])

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context with the precision of the plan."""
        dtype = DTYPES[self.plan.precision]
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def outputs(
        self, split: Split, batches: list[np.ndarray], before: Callable[[dict[str, Tensor]], None] | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Pass batches through the model in evaluation mode.

        Args:
            split: the split.
            batches: indices in the split; a batch that does not fit in memory is halved, unless `before` is given.
            before: called with each batch before its forward pass.

        Yields:
            The indices of a batch, and the model's output.
        """
        self.model.eval()

        @torch.no_grad()  # around the generator it would keep the last output alive (see `EvalBatchSize.map`)
        def run(examples: np.ndarray) -> Any:
            batch = to_device(collate(split, examples, self.pad_id), self.device)
            batch.pop("labels")
            if before:
                before(batch)
            return self._forward(batch)

        with self.prepared():
            # with `before`, hooks on layers would see examples twice if a batch was halved
            yield from (
                ((examples, run(examples)) for examples in batches)
                if before
                else self.eval_batch_size.map(batches, run)
            )

    def predict(self, split: Split, batches: list[np.ndarray]) -> np.ndarray:
        """Compute logits in evaluation mode.

        Args:
            split: the split.
            batches: indices in the split.

        Returns:
            examples x outputs, in the order of the split; rows of examples in no batch are NaN.
        """
        logits = None
        for examples, outputs in self.outputs(split, batches):
            rows = outputs.logits.float().cpu().numpy()
            if logits is None:
                logits = np.full((len(split), rows.shape[1]), np.nan, dtype=np.float32)
            logits[examples] = rows
            del outputs  # see `EvalBatchSize.map`
        assert logits is not None, "no batches"
        return logits


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


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copy a batch to a device; copies to a CUDA GPU are asynchronous."""
    if device.type != "cuda":
        return {name: values.to(device) for name, values in batch.items()}
    return {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.items()}
