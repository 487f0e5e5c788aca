"""What a search will cost, before it is run: its parameter range exactly, its time from a few timed steps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from autorank import tasks
from autorank.method import find
from autorank.modeling.base import meta_shapes
from autorank.search import resources
from autorank.search.space import corners
from autorank.spec import SearchSpec, TrainSpec
from autorank.tasks.task import TaskData

TIMED = 512  # training examples of the timed runs: enough for a method's own preparation to show
CHUNKS = (2, 6)  # steps between two evaluations of the timed runs
SCORED = 64  # examples of their evaluations


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
    method = find(spec.train.method)
    bounds, shapes = [], {}
    for corner in corners(spec.space):
        config = method.Config(**(spec.train.settings | corner))
        if config.targets not in shapes:
            shapes[config.targets] = meta_shapes(model_name(spec.train), config.targets)
        bounds.append(method.adapter_params(config, shapes[config.targets]))
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def estimate(spec: SearchSpec, trials: int, each: resources.Resources) -> Estimate:
    """Time a few steps of real training at the space's largest corner.

    Two runs with different distances between evaluations tell a step from an evaluation; what is left of the
    start of the second is the method's preparation (a probe), taken to grow with the training set.

    Raises:
        AutorankError: as `prepare` and `parameter_range`.
    """
    import torch

    data = prepare(spec.train)
    threads = torch.get_num_threads()
    torch.set_num_threads(each.cpus)
    try:
        step, evaluation, preparation = _timed(spec)
    finally:
        torch.set_num_threads(threads)
    examples = len(data.train)
    training = spec.train.training
    per_epoch = math.ceil(examples / (training.batch_size or data.task.batch_size))
    steps = training.steps or (training.epochs or data.task.epochs) * per_epoch
    evaluations = math.ceil(steps / (training.eval_every or per_epoch))
    scored = sum(map(len, data.validation.values()))
    trial = (
        steps * step
        + evaluations * evaluation * scored / min(scored, SCORED)
        + preparation * examples / min(examples, TIMED)
    )
    rounds = math.ceil(trials / each.concurrency)
    return Estimate(parameter_range(spec), step, trial, rounds * trial, steps)


def _timed(spec: SearchSpec) -> tuple[float, float, float]:
    """Seconds of a step, of an evaluation of `SCORED` examples, and of preparing on `TIMED` examples."""
    from autorank.training.run import TrainingRun
    from autorank.training.workshop import Workshop

    workshop = Workshop()
    first, between = [], []
    for chunk in CHUNKS:
        run = TrainingRun(_small(spec, chunk), workshop)
        laps = [_lap(run) for _ in range(3)]
        run.release()
        first.append(laps[0])
        between.append(min(laps[1:]))
    step = max(0.0, (between[1] - between[0]) / (CHUNKS[1] - CHUNKS[0]))
    evaluation = max(0.0, between[0] - CHUNKS[0] * step)
    return step, evaluation, max(0.0, first[1] - between[1])


def _small(spec: SearchSpec, chunk: int) -> TrainSpec:
    """The base run at the largest corner, cut short, with a new learning rate, lest its probe be cached."""
    method = find(spec.train.method)
    shapes = meta_shapes(model_name(spec.train), method.Config(**spec.train.settings).targets)
    configs = [spec.train.settings | corner for corner in corners(spec.space)]
    settings = max(configs, key=lambda config: method.adapter_params(method.Config(**config), shapes)[1])
    task = spec.train.task
    cut = {
        "max_train_examples": min(task.max_train_examples or TIMED, TIMED),
        "max_eval_examples": min(task.max_eval_examples or SCORED, SCORED),
    }
    return spec.train.model_copy(
        update={
            "settings": settings | {"learning_rate": 1e-6 * (1 + time.time() % 1)},
            "task": task.model_copy(update=cut),
            "training": spec.train.training.model_copy(update={"steps": 3 * chunk, "eval_every": chunk}),
        }
    )


def _lap(run: object) -> float:
    started = time.perf_counter()
    next(run)  # type: ignore[call-overload]
    return time.perf_counter() - started
