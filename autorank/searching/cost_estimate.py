"""What a search will cost, before it is run: its parameter range exactly, its time from a few timed steps."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autorank import tasks
from autorank.searching.ray import resources
from autorank.searching.sampling.trial_planner import fitting_settings
from autorank.searching.space.param_bounds import ParamBounds, parameter_range, run_length
from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainSpec
from autorank.tasks.definition import TaskData

if TYPE_CHECKING:
    from autorank.training.run import TrainingRun

TIMED = 512  # training examples of the timed run: enough for a method's own preparation to show
SCORED = 32  # examples of its evaluations: a full batch where texts are written, which takes no longer than one text
CHUNK = 4  # steps between them


@dataclass(frozen=True)
class Estimate:
    """Of a search. Seconds are of this machine; on another they do not hold."""

    params: tuple[int, int]  # fewest and most adapter parameters in the space
    seconds_per_step: float
    seconds_per_evaluation: float
    seconds_per_trial: float
    seconds: float  # of all trials, without Ray's start
    steps: int  # optimizer steps a trial
    labels: str  # what they were understood as


def estimate(spec: SearchSpec, trials: int, each: resources.Resources, bounds: ParamBounds) -> Estimate:
    """Time a few steps of real training at each method's largest corner; rough, and on this machine as it is now.

    Every trial is taken to run to its end, and methods to have equal shares. What the first steps take longer than
    the others is the method's preparation (a probe), which is taken to grow with the training set. An evaluation grows
    with its examples, and where texts are written also with the longest reference: up to there untrained models write.
    Slices are taken to cost as much as they may.

    Raises:
        AutorankError: data or model cannot be had, or a method needs longer runs.
    """
    from autorank.training.slices import SHARE

    data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
    small = tasks.load(_cut(spec.task), tasks.base_model(spec.task, spec.model))
    steps, evaluations = run_length(spec, data)
    timed = [_timed(spec, entry, steps, each.cpus, bounds) for entry in spec.entries]
    step, scoring, preparation = (sum(parts) / len(timed) for parts in zip(*timed, strict=True))
    scoring *= _work(data) / _work(small)
    trial = preparation * len(data.train) / len(small.train) + steps * step + evaluations * scoring
    trial += SHARE * steps * step if spec.training.slices == "auto" else 0
    trial += spec.training.slices * evaluations * scoring if isinstance(spec.training.slices, int) else 0
    seconds = math.ceil(trials / each.concurrency) * trial
    return Estimate(parameter_range(spec, bounds), step, scoring, trial, seconds, steps, data.labels)


def _work(data: TaskData) -> int:
    """The work of an evaluation: examples, or if texts are generated tokens, one after another in each batch."""
    from autorank.tasks.data.pairs import Pairs
    from autorank.tasks.metrics.text import FORWARD
    from autorank.training.objectives.generation import EVAL_BATCH

    splits = data.validation.values()
    if not data.task.kind.head.generates or data.task.metrics[0] in FORWARD:
        return sum(map(len, splits))
    prompts = sum(len(set(split.labels.tolist())) for split in splits)
    return math.ceil(prompts / EVAL_BATCH) * int(max(cast(Pairs, split).target_lengths.max() for split in splits))


def _timed(
    spec: SearchSpec, entry: MethodSpec, steps: int, threads: int, bounds: ParamBounds
) -> tuple[float, float, float]:
    """Seconds of a step, of an evaluation and of preparing, on what `_cut` leaves."""
    import torch

    from autorank.training.model_cache import ModelCache
    from autorank.training.run import TrainingRun

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as probes:
            model_cache = ModelCache()
            for name, count in (("warm", 1), ("timed", 3)):  # the first run loads and warms up
                model_cache.probes = Path(probes) / name  # a probe found in the cache would cost nothing
                run = TrainingRun(_small(spec, entry, steps, bounds), model_cache)
                laps = [_lap(run) for _ in range(count)]
                run.release()
    finally:
        torch.set_num_threads(before)
    first, later = laps[0][0], min(training for training, _ in laps[1:])
    return later / CHUNK, min(scoring for _, scoring in laps[1:]), max(0.0, first - later)


def _small(spec: SearchSpec, entry: MethodSpec, steps: int, bounds: ParamBounds) -> TrainSpec:
    """A run with the method's largest adapter, if trials are long enough for it, on few examples."""
    settings = fitting_settings(entry, bounds, bounds.length_check(steps)) | {"learning_rate": 1e-6}
    # as many steps as a trial has, though few are made: schedules depend on them
    training = {"steps": max(steps, 3 * CHUNK), "eval_every": CHUNK, "slices": "off"}
    return TrainSpec(
        task=_cut(spec.task), model=spec.model, method=entry.method, settings=settings,
        training=spec.training.model_copy(update=training),
    )  # fmt: skip


def _cut(task: TaskSpec) -> TaskSpec:
    """Few of the task's examples."""
    cut: dict[str, Any] = {
        "max_train_examples": min(task.max_train_examples or TIMED, TIMED),
        "max_eval_examples": min(task.max_eval_examples or SCORED, SCORED),
        "tune_split": 0.0,  # so few may hold no example of some class
    }
    return task.model_copy(update=cut)


def _lap(run: TrainingRun) -> tuple[float, float]:
    """Seconds of `CHUNK` steps, with what comes before the first, and of the evaluation after them."""
    started = time.perf_counter()
    next(run)
    return time.perf_counter() - started - run.evaluating, run.evaluating
