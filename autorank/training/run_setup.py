"""The parts of a training run: data, base model, objective, optimization loop, and what its method can access."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autorank import cache, tasks
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling import target_modules
from autorank.modeling.base_model import BaseModel
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.loading.auto_model import set_pad_token
from autorank.modeling.loading.remote_code import trusting
from autorank.run_context import RunContext
from autorank.spec import TrainSpec
from autorank.tasks.definition import TaskData
from autorank.training import objectives
from autorank.training.model_cache import DTYPES, ModelCache
from autorank.training.objectives.base import Objective
from autorank.training.optimization import distributed
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.optimization.micro_batching import MicroBatching
from autorank.training.optimization.plan import Plan
from autorank.training.run_loops import RunLoops
from autorank.training.slicing.component_scores import component_scores
from autorank.training.slicing.slice_scorer import SliceScorer


@dataclass(frozen=True)
class RunSetup:
    """The parts of a run before its method is prepared.

    Attributes:
        data: The task's data.
        base: The base model, without updates.
        objective: The task's objective.
        loop: The optimization loop, over all training examples.
        slices: Scores slices of the adapter.
        micro_batching: Finds the number of micro-batches; None if it is given, or on a CPU.
        context: What the method can access.
    """

    data: TaskData
    base: BaseModel
    objective: Objective
    loop: OptimizationLoop
    slices: SliceScorer
    micro_batching: MicroBatching | None
    context: RunContext


def set_up(
    spec: TrainSpec, method: AllocationMethod[Any], model_cache: ModelCache, precision: str,
    undo: list[Callable[[], object]],
) -> RunSetup:  # fmt: skip
    """Load data and base model, and create the parts of a run.

    Args:
        spec: The specification of the run.
        method: Its method.
        model_cache: Provides data and base model.
        precision: fp32, bf16 or fp16.
        undo: Receives calls that restore the base model at the end of the run.

    Returns:
        The parts.

    Raises:
        AutorankError: The spec cannot be run.
    """
    training, config = spec.training, method.config
    model_name = tasks.base_model(spec.task, spec.model)
    data = model_cache.data(spec.task, model_name)
    objective = objectives.create(data)
    base = _base(spec, model_name, data, model_cache, precision, undo)
    objective.check(base.model.config)
    layers = target_modules.find(base.model, config.targets) if isinstance(config, TargetedConfig) else {}
    if training.gradient_checkpointing:
        undo.append(gradient_checkpointing.enable(base.model))
    on_gpu = model_cache.device.type == "cuda"
    accumulate = 1 if training.accumulate == "auto" else training.accumulate
    plan = Plan.of(training, data.task, config.learning_rate, accumulate, precision)
    loops_of = partial(RunLoops, base, data, objective, model_cache)
    loops = loops_of(plan)
    if base.mask_form is None and on_gpu:  # a CPU gains nothing
        base.mask_form = loops.main.find_mask_form()
        loops = loops_of(plan)
    loop, micro_batching = loops.main, None
    content = [data.digest, model_cache.fingerprint(model_name)]
    if training.accumulate == "auto" and on_gpu:
        micro_batching = micro_batching_of(spec, method, loop, base, content, model_cache.probes)
        loop.plan = replace(plan, accumulate=micro_batching.estimate(layers))
    slices = SliceScorer(base, loop, objective, data, training.slices, training.slice_score, spec.max_slice_params)
    context = _context(loops, base, data, model_cache, layers, _key(spec, loop.plan, content), undo)
    return RunSetup(data, base, objective, loop, slices, micro_batching, context)


def _base(
    spec: TrainSpec, model_name: str, data: TaskData, model_cache: ModelCache, precision: str,
    undo: list[Callable[[], object]],
) -> BaseModel:  # fmt: skip
    """The base model, with a new head drawn from the seed."""
    task, training = data.task, spec.training
    with trusting(spec.task.trust_remote_code):
        base = model_cache.base(model_name, task.kind.head, task.outputs, DTYPES[precision], training.quantize)
    undo.append(partial(base.reset, training.seed))
    base.reset(training.seed)
    set_pad_token(base.model.config, data.pad_id)
    return base


def micro_batching_of(
    spec: TrainSpec, method: AllocationMethod[Any], loop: OptimizationLoop, base: BaseModel, content: list[str],
    probes: Path,
) -> MicroBatching:  # fmt: skip
    """Create the object that finds the number of micro-batches, for all runs that need the same memory.

    Args:
        spec: The run; seed, length and schedule do not matter.
        method: Its method.
        loop: The loop of the run.
        base: The base model.
        content: Identifies the content of the data and of the base model.
        probes: Directory in which numbers are stored.

    Returns:
        The object.
    """
    training = spec.training
    trained = method.adapter_params(method.config, base.model)[1] + base.head_params
    key = [*content, loop.plan.precision, training.quantize, training.gradient_checkpointing]
    return MicroBatching(loop, trained, probes, key)


def _context(
    loops: RunLoops, base: BaseModel, data: TaskData, model_cache: ModelCache, layers: dict[str, nn.Module],
    key: str, undo: list[Callable[[], object]],
) -> RunContext:  # fmt: skip
    loop, device, seed = loops.main, model_cache.device, loops.main.plan.seed
    return RunContext(
        base=base, layers=layers, generator=torch.Generator().manual_seed(seed), device=device, seed=seed,
        labels=data.train.strata, weights=data.train.weights, total_steps=loop.total_steps,
        warmup_steps=loop.warmup_steps, cache=model_cache.probes, key=key, train_on=loops.train_on,
        observe=loops.observe, gradients=loop.gradients, optimizer=loop.optimizer,
        loss_scale=loop.scaler.get_scale, sum=distributed.sum_, undo=undo,
        once=partial(distributed.once, device=device),
        component_scores=lambda kind, spectrum: component_scores(kind, spectrum, loop),
    )  # fmt: skip


def _key(spec: TrainSpec, plan: Plan, content: list[str]) -> str:
    """A digest of data, model and training settings, without those of the method."""
    training = plan.__dict__ | {"learning_rate": None, "epochs": None, "steps": None}
    return cache.key([*content, training, spec.training.quantize])
