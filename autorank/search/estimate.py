"""What a search will cost, before it is run: its parameter range exactly, its time from a few timed steps."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorank import tasks
from autorank.method import find
from autorank.modeling.base import meta_model
from autorank.search import resources
from autorank.search.space import corners
from autorank.spec import SearchSpec, TrainSpec
from autorank.tasks.task import TaskData

TIMED = 512  # training examples of the timed run: enough for a method's own preparation to show
SCORED = 16  # examples of its evaluations, which should hardly count
CHUNK = 4  # steps between them
FORWARD = 0.5  # of a step is the forward pass, about: the base is frozen, so backward costs the same


@dataclass(frozen=True)
class Estimate:
    """Of a search. Seconds are of this machine; on another they do not hold."""

    params: tuple[int, int]  # fewest and most adapter parameters in the space
    seconds_per_step: float
    seconds_per_trial: float
    seconds: float  # of all trials, without Ray's start
    steps: int  # optimizer steps a trial


def model_name(spec: TrainSpec) -> str:
    """The base model: the spec's, or the task's own."""
    return spec.model or tasks.resolve(spec.task).model


def prepare(spec: TrainSpec) -> TaskData:
    """Load and tokenise the data once: trials find them in the cache, and mistakes show before a search.

    Raises:
        AutorankError: data or tokenizer cannot be had.
    """
    return tasks.load(spec.task, model_name(spec))


def parameter_range(spec: SearchSpec) -> tuple[int, int]:
    """Fewest and most adapter parameters of any trial: exact, from the shapes of the model's layers.

    Raises:
        AutorankError: the model cannot be had, or a target names none of its layers.
    """
    bounds = _bounds(spec)
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def extremes(spec: SearchSpec) -> list[dict[str, Any]]:
    """The settings on which the number of parameters depends, where there are fewest and where there are most."""
    bounds, at = _bounds(spec), corners(spec.space)

    def counts(name: str) -> bool:
        """Whether any two corners that differ in this setting alone differ in parameters."""
        seen: dict[str, tuple[int, int]] = {}
        for corner, bound in zip(at, bounds, strict=True):
            others = repr({other: value for other, value in corner.items() if other != name})
            if seen.setdefault(others, bound) != bound:
                return True
        return False

    sizes = [name for name in spec.space if counts(name)]
    fewest = at[min(range(len(at)), key=lambda i: bounds[i][0])]
    most = at[max(range(len(at)), key=lambda i: bounds[i][1])]
    return [{name: corner[name] for name in sizes} for corner in (fewest, most)]


def _bounds(spec: SearchSpec) -> list[tuple[int, int]]:
    """Fewest and most adapter parameters at each corner of the space."""
    method, model = find(spec.train.method), meta_model(model_name(spec.train))
    configs = [method.Config(**(spec.train.settings | corner)) for corner in corners(spec.space)]
    return [method.adapter_params(config, model) for config in configs]


def estimate(spec: SearchSpec, trials: int, each: resources.Resources) -> Estimate:
    """Time a few steps of real training at the space's largest corner; rough, and on this machine as it is now.

    What the first steps take longer than the others is the method's preparation (a probe), which is taken to grow
    with the training set.

    Raises:
        AutorankError: as `prepare` and `parameter_range`.
    """
    import torch

    data = prepare(spec.train)
    training = spec.train.training
    batch = training.batch_size or data.task.batch_size
    examples, scored = len(data.train), sum(map(len, data.validation.values()))
    per_epoch = math.ceil(examples / batch)
    steps = training.steps or (training.epochs or data.task.epochs) * per_epoch
    threads = torch.get_num_threads()
    torch.set_num_threads(each.cpus)
    try:
        step, preparation = _timed(spec, batch, steps)
    finally:
        torch.set_num_threads(threads)
    evaluations = math.ceil(steps / (training.eval_every or per_epoch))
    trial = steps * step + evaluations * scored / batch * step * FORWARD
    trial += preparation * examples / min(examples, TIMED)
    return Estimate(parameter_range(spec), step, trial, math.ceil(trials / each.concurrency) * trial, steps)


def _timed(spec: SearchSpec, batch: int, steps: int) -> tuple[float, float]:
    """Seconds of a step, and of preparing on `TIMED` examples."""
    from autorank.training.run import TrainingRun
    from autorank.training.workshop import Workshop

    with tempfile.TemporaryDirectory() as probes:  # a probe found in the cache would cost nothing
        workshop = Workshop(probes=Path(probes))
        for rate in (1e-6, 2e-6):  # the first run loads and warms up
            run = TrainingRun(_small(spec, steps, rate), workshop)
            laps = [_lap(run) for _ in range(3)]
            run.release()
    return min(laps[1:]) / (CHUNK + SCORED / batch * FORWARD), max(0.0, laps[0] - min(laps[1:]))


def _small(spec: SearchSpec, steps: int, rate: float) -> TrainSpec:
    """The base run at the largest corner, on few examples."""
    most = [high for _, high in _bounds(spec)]
    settings = spec.train.settings | corners(spec.space)[most.index(max(most))]
    task, training = spec.train.task, spec.train.training
    cut = {
        "max_train_examples": min(task.max_train_examples or TIMED, TIMED),
        "max_eval_examples": min(task.max_eval_examples or SCORED, SCORED),
    }
    return spec.train.model_copy(
        update={
            "settings": settings | {"learning_rate": rate},
            "task": task.model_copy(update=cut),
            # as many steps as a trial has, though few are made: schedules depend on them
            "training": training.model_copy(update={"steps": max(steps, 3 * CHUNK), "eval_every": CHUNK}),
        }
    )


def _lap(run: object) -> float:
    started = time.perf_counter()
    next(run)  # type: ignore[call-overload]
    return time.perf_counter() - started
