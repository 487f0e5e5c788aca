"""Infers the task of the user's own data from its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autorank.tasks.data import labels as label_columns
from autorank.tasks.definition import CORRELATIONS, Task
from autorank.tasks.examples import OWN_DATA
from autorank.tasks.kinds.classification import CLASSIFICATION
from autorank.tasks.kinds.regression import REGRESSION


def infer_task(name: str, text: tuple[str, ...], label: str, labels: Sequence[Any], source: str) -> Task:
    """Define a task for the user's own data from the labels of its training split.

    Labels that are all numbers, at least one with a fraction, mean regression. All others mean classification: each
    distinct value is a class and keeps its name; classes are sorted by number, or else by name.

    Args:
        name: The task's name.
        text: Its text columns.
        label: Its label column.
        labels: The values of the label column.
        source: The file, for messages.

    Returns:
        The task.

    Raises:
        AutorankError: A label is missing, is no text or number, or is not finite in a regression.
    """
    if label_columns.are_fractions(labels, label, source):
        return Task(name, REGRESSION, text, label, (), CORRELATIONS, source=OWN_DATA)
    classes = label_columns.class_names(labels, label, source)
    # Matthews besides accuracy: it depends neither on the order of the classes nor on their shares.
    return Task(name, CLASSIFICATION, text, label, classes, ("accuracy", "matthews"), source=OWN_DATA)
