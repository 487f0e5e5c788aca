"""Loss and score of each kind of task."""

from __future__ import annotations

from autorank.tasks.definition import TaskData
from autorank.training.objectives.base import Objective
from autorank.training.objectives.generation import Generation
from autorank.training.objectives.labels import Classification, Regression
from autorank.training.objectives.spans import Spans

OBJECTIVES: dict[str, type[Objective]] = {
    "classification": Classification,
    "regression": Regression,
    "span": Spans,
    "generation": Generation,
}


def create(data: TaskData) -> Objective:
    """Create the objective of a task.

    Args:
        data: The task with its tokenized splits.

    Returns:
        The objective.
    """
    return OBJECTIVES[data.task.kind](data)
