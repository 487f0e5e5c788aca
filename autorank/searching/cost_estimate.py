"""Estimates the cost of a search: its exact range of parameters, and its time from a few timed steps."""

from __future__ import annotations

import math
import statistics
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
    from autorank.tasks.data.pairs import Pairs
    from autorank.training.run import TrainingRun

TIMED_TRAIN_EXAMPLES = 512  # training examples of the timed run: enough to measure a method's preparation
TIMED_EVAL_EXAMPLES = 32  # examples of its evaluations: a full batch of generated texts takes as long as a single text
TIMED_EVAL_INTERVAL = 4  # steps between its evaluations


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a search. Times are those of the current machine.

    Attributes:
        params: Fewest and most adapter parameters in the space.
        seconds_per_step: Seconds of an optimizer step.
        seconds_per_evaluation: Seconds of an evaluation.
        seconds_per_trial: Seconds of a complete trial.
        seconds: Seconds of all trials, without the start of Ray.
        steps: Optimizer steps of a trial.
        labels: Description of the labels.
    """

    params: tuple[int, int]
    seconds_per_step: float
    seconds_per_evaluation: float
    seconds_per_trial: float
    seconds: float
    steps: int
    labels: str


@dataclass(frozen=True)
class _Timing:
    """The measured costs of a method with the examples of `_few_examples`.

    Attributes:
        step: Seconds of a step.
        evaluation: Seconds of an evaluation.
        preparation: Seconds of the preparation.
        prompts: Number of prompts that an evaluation decodes together.
    """

    step: float
    evaluation: float
    preparation: float
    prompts: int


def estimate(spec: SearchSpec, trials: int, trial_resources: resources.Resources, bounds: ParamBounds) -> Estimate:
    """Estimate the cost of a search from a few training steps of each method with its largest adapter.

    The estimate is rough. It assumes that all trials are complete, that methods have equal shares, that slices cost the
    maximum allowed, and that trials in a pack take as long as one after the other. The additional time of the first
    steps is that of the method's preparation (a probe) and proportional to the training set. The time of an evaluation
    is proportional to its examples, and if texts are generated to the longest reference, since untrained models
    generate up to the limit.

    Args:
        spec: The search.
        trials: Number of trials.
        trial_resources: Resources of each trial.
        bounds: Bounds of adapter parameters.

    Returns:
        The estimate.

    Raises:
        AutorankError: Data or model cannot be loaded, or a method needs longer runs.
    """
    from autorank.training.slicing.slice_scorer import AUTO_BUDGET_FRACTION

    data = tasks.load(spec.task, tasks.base_model(spec.task, spec.model))
    small = tasks.load(spec.task.model_copy(update=_few_examples(spec.task)), tasks.base_model(spec.task, spec.model))
    steps, evaluations = run_length(spec, data)
    tokens = _longest_text(data)
    timed = [_measure(spec, entry, steps, trial_resources, bounds, tokens) for entry in spec.entries]
    step = statistics.fmean(timing.step for timing in timed)
    scoring = statistics.fmean(
        timing.evaluation * (_evaluation_work(data, timing.prompts) / _evaluation_work(small, timing.prompts))
        for timing in timed
    )
    preparation = statistics.fmean(timing.preparation for timing in timed)
    trial = preparation * len(data.train) / len(small.train) + steps * step + evaluations * scoring
    trial += AUTO_BUDGET_FRACTION * steps * step if spec.training.slices == "auto" else 0
    trial += spec.training.slices * evaluations * scoring if isinstance(spec.training.slices, int) else 0
    seconds = math.ceil(trials / trial_resources.packs) * trial
    return Estimate(parameter_range(spec, bounds), step, scoring, trial, seconds, steps, data.labels)


def _generates_texts(data: TaskData) -> bool:
    """Whether evaluations generate texts for the score."""
    from autorank.tasks.metrics.text import FORWARD

    return data.task.kind.head.generates and data.task.metrics[0] not in FORWARD


def _longest_text(data: TaskData) -> int:
    """Tokens of the longest prompt and the longest completion of an evaluation; 0: no texts are generated."""
    if not _generates_texts(data):
        return 0
    splits = [cast("Pairs", split) for split in data.validation.values()]
    return int(
        max(split.prompt_lengths.max() for split in splits) + max(split.target_lengths.max() for split in splits)
    )


def _evaluation_work(data: TaskData, prompts_at_once: int) -> int:
    """The work of an evaluation: its examples, or the number of sequential tokens if texts are generated."""
    splits = data.validation.values()
    if not _generates_texts(data):
        return sum(map(len, splits))
    prompts = sum(len(set(split.labels.tolist())) for split in splits)
    longest = max(cast("Pairs", split).target_lengths.max() for split in splits)
    return math.ceil(prompts / prompts_at_once) * int(longest)


def _measure(
    spec: SearchSpec, entry: MethodSpec, steps: int, trial_resources: resources.Resources, bounds: ParamBounds,
    tokens: int,
) -> _Timing:  # fmt: skip
    """Measure the costs of a method. `tokens` is the length of a prompt and its completion; 0 if none is generated."""
    import torch

    from autorank.training.gpu import reserved_device
    from autorank.training.model_cache import ModelCache
    from autorank.training.run import TrainingRun

    threads_before = torch.get_num_threads()
    torch.set_num_threads(trial_resources.cpus)
    try:
        with tempfile.TemporaryDirectory() as probes:
            model_cache = ModelCache(reserved_device(trial_resources.gpus))
            for name, count in (("warm", 1), ("timed", 3)):  # the first run loads and warms up
                model_cache.probes = Path(probes) / name  # so that no probe is cached
                run = TrainingRun(_timed_run(spec, entry, steps, bounds), model_cache)
                times = [_seconds(run) for _ in range(count)]
                prompts = run.decoding_batch(tokens) if tokens else 1
                run.release()
    finally:
        torch.set_num_threads(threads_before)
    first, later = times[0][0], min(training for training, _ in times[1:])
    return _Timing(
        later / TIMED_EVAL_INTERVAL, min(scoring for _, scoring in times[1:]), max(0.0, first - later), prompts
    )


def _timed_run(spec: SearchSpec, entry: MethodSpec, steps: int, bounds: ParamBounds) -> TrainSpec:
    """A run with the largest adapter for which trials are long enough, on few examples."""
    settings = fitting_settings(entry, bounds, bounds.length_check(steps)) | {"learning_rate": 1e-6}
    # as many steps as a trial, because schedules depend on them, although few are run
    training = {"steps": max(steps, 3 * TIMED_EVAL_INTERVAL), "eval_every": TIMED_EVAL_INTERVAL, "slices": "off"}
    return spec.train(entry.method, settings).changed(task=_few_examples(spec.task), training=training)


def _few_examples(task: TaskSpec) -> dict[str, Any]:
    """Fields of the task with few examples."""
    return {
        "max_train_examples": min(task.max_train_examples or TIMED_TRAIN_EXAMPLES, TIMED_TRAIN_EXAMPLES),
        "max_eval_examples": min(task.max_eval_examples or TIMED_EVAL_EXAMPLES, TIMED_EVAL_EXAMPLES),
        "tune_split": 0.0,  # a part of so few examples may lack a class
    }


def _seconds(run: TrainingRun) -> tuple[float, float]:
    """Seconds of `TIMED_EVAL_INTERVAL` steps, including the preparation, and of the evaluation after them."""
    started = time.perf_counter()
    next(run)
    return time.perf_counter() - started - run.evaluation_seconds, run.evaluation_seconds
