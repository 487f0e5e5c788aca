"""Loss and score of each kind of task."""

from __future__ import annotations

from importlib import import_module

from autorank.tasks.definition import TaskData
from autorank.training.objectives.base import Objective


def create(data: TaskData) -> Objective:
    """Create the objective of a task.

    Args:
        data: The task with its tokenized splits.

    Returns:
        The objective.
    """
    module, _, name = data.task.kind.objective.partition(":")
    objective: type[Objective] = getattr(import_module(module), name)
    return objective(data)
