"""Shortens trainings, to check in seconds that a recipe runs. The scores are not comparable."""

from __future__ import annotations

import math

from autorank import tasks
from autorank.spec import TrainSpec
from autorank.tasks import registry

EXAMPLES, STEPS, EVALUATIONS = 64, 100, 4  # minima; IncreLoRA's ranks take 73 steps to grow on SQuAD
COUNT_STEPS = ("interval",)  # settings that are a number of steps


def scaled(train: TrainSpec, scale: float) -> TrainSpec:
    """Return the training with `scale` times its examples and epochs, and `scale`² times settings that count steps.

    Args:
        train: The training.
        scale: A fraction; 1 leaves the training unchanged.

    Returns:
        The scaled training.

    Raises:
        AutorankError: The data is not available.
    """
    if scale >= 1:
        return train
    task = tasks.resolve(train.task)
    size = len(registry.read(train.task)[1])
    batch, epochs = train.training.batch_size or task.batch_size, train.training.epochs or task.epochs
    examples = min(size, max(EXAMPLES, math.ceil(scale * size)))
    steps = max(STEPS, max(1, round(scale * epochs)) * math.ceil(examples / batch))
    counts = {
        name: max(1, round(scale**2 * value))
        for name, value in train.settings.items()
        if name in COUNT_STEPS and value is not None
    }
    cut = {"max_train_examples": examples, "max_eval_examples": max(EXAMPLES, examples // EVALUATIONS)}
    fewer = {"steps": steps, "eval_every": math.ceil(steps / EVALUATIONS)}
    return train.changed(counts, cut, fewer)
