"""What a search will cost, before it is run: its parameter range exactly, its time from a few timed steps."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorank import tasks
from autorank.search import resources
from autorank.search.sizes import Bounds, at_corners, model_name, parameter_range, run_length
from autorank.search.space import corners
from autorank.spec import MethodSpec, SearchSpec, TrainSpec

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


def estimate(spec: SearchSpec, trials: int, each: resources.Resources, bounds: Bounds) -> Estimate:
    """Time a few steps of real training at each method's largest corner; rough, and on this machine as it is now.

    Every trial is taken to run to its end, and methods to have equal shares. What the first steps take longer than
    the others is the method's preparation (a probe), which is taken to grow with the training set.

    Raises:
        AutorankError: data or model cannot be had.
    """
    data = tasks.load(spec.task, model_name(spec.task, spec.model))
    batch = spec.training.batch_size or data.task.batch_size
    examples, scored = len(data.train), sum(map(len, data.validation.values()))
    steps, evaluations = run_length(spec, data)
    timed = [_timed(spec, entry, batch, steps, each.cpus, bounds) for entry in spec.entries]
    step, preparation = (sum(parts) / len(timed) for parts in zip(*timed, strict=True))
    trial = steps * step + evaluations * scored / batch * step * FORWARD
    trial += preparation * examples / min(examples, TIMED)
    seconds = math.ceil(trials / each.concurrency) * trial
    return Estimate(parameter_range(spec, bounds), step, trial, seconds, steps)


def _timed(
    spec: SearchSpec, entry: MethodSpec, batch: int, steps: int, threads: int, bounds: Bounds
) -> tuple[float, float]:
    """Seconds of a step, and of preparing on `TIMED` examples."""
    import torch

    from autorank.training.run import TrainingRun
    from autorank.training.workshop import Workshop

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as probes:  # a probe found in the cache would cost nothing
            workshop = Workshop(probes=Path(probes))
            for rate in (1e-6, 2e-6):  # the first run loads and warms up
                run = TrainingRun(_small(spec, entry, steps, rate, bounds), workshop)
                laps = [_lap(run) for _ in range(3)]
                run.release()
    finally:
        torch.set_num_threads(before)
    return min(laps[1:]) / (CHUNK + SCORED / batch * FORWARD), max(0.0, laps[0] - min(laps[1:]))


def _small(spec: SearchSpec, entry: MethodSpec, steps: int, rate: float, bounds: Bounds) -> TrainSpec:
    """A run at the method's largest corner, on few examples."""
    most = [high for _, high in at_corners(entry, bounds)]
    settings = entry.settings | corners(entry.space)[most.index(max(most))] | {"learning_rate": rate}
    cut: dict[str, Any] = {
        "max_train_examples": min(spec.task.max_train_examples or TIMED, TIMED),
        "max_eval_examples": min(spec.task.max_eval_examples or SCORED, SCORED),
        "tune_split": 0.0,  # so few may hold no example of some class
    }
    # as many steps as a trial has, though few are made: schedules depend on them
    training = {"steps": max(steps, 3 * CHUNK), "eval_every": CHUNK}
    return TrainSpec(
        task=spec.task.model_copy(update=cut), model=spec.model, method=entry.method, settings=settings,
        training=spec.training.model_copy(update=training),
    )  # fmt: skip


def _lap(run: object) -> float:
    started = time.perf_counter()
    next(run)  # type: ignore[call-overload]
    return time.perf_counter() - started
