"""The training loop, used by `autorank train`, by warm Tune actors and by Ray Train workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autorank import methods, tasks
from autorank.errors import AutorankError
from autorank.method import TargetedConfig
from autorank.modeling import adapter_file, adapters, target_modules
from autorank.modeling.loading import quantization
from autorank.run_context import RunContext
from autorank.spec import TrainSpec
from autorank.tasks.metrics.outcomes import Scores, unpack
from autorank.training import gpu
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache, resolve_precision
from autorank.training.optimization import distributed
from autorank.training.optimization.hooks import MethodHooks
from autorank.training.optimization.rng import stream
from autorank.training.run_setup import set_up
from autorank.training.run_summary import RunSummary
from autorank.training.slicing.slice_scorer import with_slices


class TrainingRun:
    """A training run, as an iterator of its evaluations.

        for evaluation in TrainingRun(spec):
            print(evaluation.step, evaluation.score)

    Data and model are loaded for the first evaluation. A run resumed from the `state_dict` of any evaluation ends with
    the same weights as an uninterrupted run, bit for bit on a CPU.

    Args:
        spec: The specification of the run.
        model_cache: Provides base model and data for one run at a time (see `release`); a new one by default.

    Attributes:
        step: Number of optimizer steps so far.
        total_steps: Optimizer steps of the run; None until the data is loaded.
        evaluation_seconds: Seconds of the last evaluation, without training.
        score_from: Step from which evaluations have scores; earlier ones have NaN, which costs no time.

    Raises:
        AutorankError: The spec cannot be run, or training diverges.
    """

    def __init__(self, spec: TrainSpec, model_cache: ModelCache | None = None) -> None:
        self.spec = spec
        self.step = 0
        self.total_steps: int | None = None
        self.evaluation_seconds = 0.0
        self.score_from = 0
        self._model_cache = model_cache or ModelCache()
        self._method = methods.configure(spec.method, spec.settings)
        self._model_name = tasks.base_model(spec.task, spec.model)
        self._precision = resolve_precision(spec.training.precision, self._model_cache.device)
        if spec.training.quantize:
            quantization.check()
        self._context: RunContext | None = None
        self._undo: list[Callable[[], object]] = []  # calls that restore the base model
        self._seconds = 0.0
        self._peak_trainable = 0
        self._losses: list[Tensor] = []

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the method, including defaults, as plain values."""
        return dict(self._method.config.model_dump(mode="json"))

    def __iter__(self) -> TrainingRun:
        return self

    def start(self) -> None:
        """Load data and model and attach the method's updates, unless the run has started or was resumed."""
        if self._context is None:
            self._open()
            started = time.perf_counter()
            try:
                self._prepare()
            except torch.OutOfMemoryError:  # a method may train or pass examples through the model
                self.need_less_memory()
                raise
            self._seconds += time.perf_counter() - started

    def summary(self) -> RunSummary:
        """Summarize the run, which has started."""
        warnings = [*self._data.warnings, *filter(None, [self._unadapted])]
        return RunSummary(
            self._data, self.total_steps or 0, self._trained(), self._model_cache.device, self._precision, warnings
        )

    def __next__(self) -> Evaluation:
        """Train until the next evaluation, and evaluate."""
        self.start()
        started = time.perf_counter()
        assert self.total_steps is not None
        if self.step >= self.total_steps:
            raise StopIteration
        with stream(self._model_cache.device, self.spec.training.seed, distributed.rank(), self.step):
            due = self._due()
            while self.step < due:
                self.train_step()
            gpu.wait(self._model_cache.device)
            self._seconds += time.perf_counter() - started
            return self._evaluate()

    def _due(self) -> int:
        """The number of steps at the next evaluation."""
        assert self.total_steps is not None
        return min(self.total_steps, (self.step // self._eval_every + 1) * self._eval_every)

    def _evaluate(self) -> Evaluation:
        """Evaluate the model as it is, and slices of its adapter."""
        started = time.perf_counter()
        scores = self._scores()
        gpu.wait(self._model_cache.device)
        self.evaluation_seconds = time.perf_counter() - started
        params = adapters.adapter_params(self._base.model, self._base.head)
        score = scores[self._data.task.metrics[0]]
        scored_slices = self._slices.score(self.step, self.step == self.total_steps, params, score)
        self._seconds += time.perf_counter() - started
        return with_slices(self._make_evaluation(scores, params), scores.outcomes, scored_slices)

    def _scores(self) -> Scores:
        if self.step < self.score_from:
            return Scores(dict.fromkeys(self._data.task.metrics, math.nan))
        return self._objective.evaluate(self._loop, self._data.validation)

    def with_slices(self, evaluation: Evaluation, sizes: Sequence[int]) -> Evaluation:
        """Score slices of the adapter as the model is now.

        Args:
            evaluation: The last evaluation.
            sizes: Adapter parameters of each slice, at most; if all slices are larger, it has no components.

        Returns:
            The evaluation with these slices.
        """
        outcomes = unpack(evaluation.predictions)[0] if evaluation.predictions else None
        return with_slices(evaluation, outcomes, [self._slices.at(size) for size in sizes])

    def _open(self) -> None:
        """Load data and model and create the loop of the run, without updates."""
        if "fp16" in distributed.gather(self._precision):  # a worker's GPU does not compute in bf16
            self._precision = "fp16"
        setup = set_up(self.spec, self._method, self._model_cache, self._precision, self._undo)
        self._data, self._base, self._objective = setup.data, setup.base, setup.objective
        self._loop, self._slices, self._micro_batching = setup.loop, setup.slices, setup.micro_batching
        self._context = setup.context
        self._hooks = MethodHooks(self._method, self._context)
        config = self._method.config
        targets = config.targets if isinstance(config, TargetedConfig) else ""
        self._unadapted = target_modules.unadapted(self._base.model, targets)  # before adapters are attached
        self.total_steps = self._loop.total_steps
        self._eval_every = self.spec.training.eval_every or self._loop.steps_per_epoch

    def _prepare(self) -> None:
        """Attach the method's updates in a new run, and add all trained parameters to the optimizer."""
        assert self._context is not None
        self._method.check_length(len(self._context.layers), self._context.total_steps)
        self._method.prepare(self._context)
        self._base.check_unfrozen()
        self._loop.train_rest()
        self._fit_memory()

    def _fit_memory(self) -> None:
        """Fit the steps of the prepared method into memory, and start the measurement of its peak."""
        loop, device = self._loop, self._model_cache.device
        if self._micro_batching is not None:
            method = [self._method.name, bool(getattr(self._method.config, "dropout", 0.0))]
            parts = self._micro_batching.measure(self._hooks, method, loop.plan.accumulate)
            loop.plan = replace(loop.plan, accumulate=parts)
        if device.type == "cuda" and self._precision != "fp32":
            self._undo += [handle.remove for handle in adapters.share_conversions(self._base.model)]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # what other runs leave in the cache must not count

    def train_step(self) -> None:
        """Take a step. If memory runs out, the next run has smaller micro-batches."""
        self._begin_step()
        try:
            loss = self._loop.step(self.step, self._hooks)
        except torch.OutOfMemoryError:
            self.need_less_memory()
            raise
        self._end_step(loss)

    def _begin_step(self) -> None:
        self._hooks.run.step = self.step
        self._peak_trainable = max(self._peak_trainable, self._trained())

    def _end_step(self, loss: Tensor) -> None:
        self._losses.append(loss)
        self.step += 1

    def need_less_memory(self) -> None:
        """Note that memory did not suffice, so that the next run has smaller micro-batches."""
        if self._micro_batching is not None:
            self._micro_batching.double()

    def _trained(self) -> int:
        """The number of parameters that are currently trained."""
        return sum(parameter.numel() for parameter in self._loop.optimizer.parameters)

    def _make_evaluation(self, scores: Scores, adapter_params: int) -> Evaluation:
        model = self._base.model
        train_loss = float(torch.stack(self._losses).mean())
        self._losses = []
        if not math.isfinite(train_loss):
            raise self._loop.diverged(f"the mean loss up to step {self.step} is {train_loss}")
        device = self._model_cache.device
        return Evaluation(
            step=self.step,
            epoch=self.step / self._loop.steps_per_epoch,
            score=scores[self._data.task.metrics[0]],
            metrics=dict(scores),
            train_loss=train_loss,
            adapter_params=adapter_params,
            nonzero_params=adapters.nonzero_params(model, self._base.head),
            trainable_params=self._peak_trainable,
            head_params=self._base.head_params,
            ranks=adapters.ranks(model),
            seconds=self._seconds,
            peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        )

    def decoding_batch(self, tokens: int) -> int:
        """Return how many prompts to decode together if prompt and completion have at most `tokens` tokens."""
        return self._loop.decoding_batch(tokens)

    def state_dict(self) -> dict[str, Any]:
        """Return the state after an evaluation, with which the run can be resumed; equal on all workers."""
        model = self._base.model
        return {
            "spec": self.spec.model_dump(mode="json"),
            "step": self.step,
            "layout": adapters.layout(model),
            "tensors": {name: p.detach().clone() for name, p in adapters.tensors(model).items()},
            "optimizer": self._loop.optimizer.state_dict(),
            "scaler": self._loop.scaler.state_dict(),
            "method": self._method.state_dict(),
            "generator": self._hooks.run.generator.get_state(),
            "seconds": self._seconds,
            "spent_on_slices": self._slices.spent,
            "peak_trainable": self._peak_trainable,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state, in a run that has not started.

        The specs must be equal, except for `accumulate` and `gradient_checkpointing`, so that a run that ran out of
        memory can continue with less.

        Raises:
            AutorankError: The state belongs to a run with another spec.
        """
        if _identity(TrainSpec.model_validate(state["spec"])) != _identity(self.spec):
            raise AutorankError("This checkpoint belongs to a run with other settings; resume it with its own spec.")
        self._open()
        context, model = self._hooks.run, self._base.model
        context.step = self.step = state["step"]
        adapters.rebuild(model, state["layout"], context.device)
        added = adapters.added_parameters(model)
        self._base.unfreeze(name for name in state["tensors"] if name not in added)
        self._method.load_state_dict(state["method"], context)
        adapters.load_tensors(model, state["tensors"])
        self._loop.optimizer.load_state_dict(state["optimizer"], dict(model.named_parameters()))
        if state["scaler"]:  # empty: the checkpoint is of a GPU that computes in bf16
            self._loop.scaler.load_state_dict(state["scaler"])
        context.generator.set_state(state["generator"])
        self._seconds, self._peak_trainable = state["seconds"], state["peak_trainable"]
        self._slices.spent = state["spent_on_slices"]
        self._fit_memory()

    def save_adapter(self, path: Path) -> None:
        """Write the trained tensors and the data needed to attach them to the base (see modeling/adapter_file.py)."""
        task = self._data.task
        origin = adapter_file.Origin(
            self._model_name, task.outputs, task.label_names, self._data.pad_id, task.kind.head, task.kind.problem_type
        )
        adapter_file.save(path, self._base, origin)

    def release(self) -> None:
        """End the run at any point and restore the base model."""
        while self._undo:
            self._undo.pop()()


def _identity(spec: TrainSpec) -> dict[str, Any]:
    """The parts of a spec that must be equal to resume a checkpoint."""
    free = {"accumulate", "gradient_checkpointing", "slices", "slice_score"}
    return spec.model_dump(mode="json", exclude={"training": free, "max_slice_params": True})
