"""Converts labels to class numbers or regression targets, and infers the kind of task from labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.data.examples import OWN_DATA, SHOWN, Columns, Examples, rows
from autorank.tasks.definition import CORRELATIONS, Task


def to_examples(task: Task, columns: Columns, source: str, train: bool = False) -> Examples:
    """Convert the columns of a classification or regression task.

    Args:
        task: The task.
        columns: Its text columns, already checked, and its label column.
        source: Where the columns come from (a file, or a split on the Hub), for messages.
        train: Whether this is the training split.

    Returns:
        The examples.

    Raises:
        AutorankError: A label is missing, not finite or unknown, or all labels of the training split are equal.
    """
    labels, classify = columns[task.label], task.kind == "classification"
    values = _class_numbers(task, labels, source) if classify else _targets(labels, task.label, source)
    if train and len(np.unique(values)) < 2:
        value = task.label_names[int(values[0])] if classify else values[0]
        raise AutorankError(
            f"Column {task.label!r} of {source} has only one value, {value!s}, so there is nothing to learn. "
            "Add rows with another label, or name another column with --label."
        )
    return Examples(tuple(columns[name] for name in task.text), values)


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
    _check_not_missing(labels, label, source)
    numbers = [number for value in labels if (number := _number(value)) is not None]
    if len(numbers) == len(labels) and not all(number.is_integer() for number in numbers):
        _targets(labels, label, source)  # raises if one is not finite
        return Task(name, "regression", text, label, (), CORRELATIONS, source=OWN_DATA)
    names = {_class_name(value, label, source) for value in labels}
    # Matthews besides accuracy: it depends neither on the order of the classes nor on their shares.
    scores = ("accuracy", "matthews")
    return Task(name, "classification", text, label, tuple(sorted(names, key=_sort_key)), scores, source=OWN_DATA)


def _check_not_missing(labels: Sequence[Any], name: str, source: str) -> None:
    missing = [i for i, label in enumerate(labels) if label is None or str(label).strip() == ""]
    if missing:
        raise AutorankError(
            f"Column {name!r} of {source} has no label in {rows(missing)} (counted from 1, {len(missing)} in "
            "all). Fill in these labels or remove the rows."
        )


def _number(value: Any) -> float | None:
    """A number, or text that is a number, as float; None for all else, true and false included."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _targets(labels: Sequence[Any], name: str, source: str) -> np.ndarray:
    """Labels as float32, `examples`; all must be finite."""
    _check_not_missing(labels, name, source)
    numbers = [_number(label) for label in labels]
    wrong = [i for i, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {source} must hold finite numbers, but {rows(wrong)} (counted from 1, "
            f"{len(wrong)} in all) has {labels[wrong[0]]!r}. Correct these labels or remove the rows."
        )
    return np.array(numbers, np.float32)


def _sort_key(name: str) -> tuple[float, str]:
    """Sorts class names: numbers by value, then the others by name."""
    number = _number(name)
    return (math.inf if number is None or math.isnan(number) else number, name)


def _class_name(value: Any, label: str, source: str) -> str:
    """A class's name: the value as it is written in JSON; 1.0 becomes 1."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    number = _number(value)
    if number is None or isinstance(value, bytes):
        raise AutorankError(
            f"Column {label!r} of {source} holds {value!r}, which is not a valid label. Use text or numbers."
        )
    return str(int(number)) if math.isfinite(number) and number.is_integer() else str(number)


def _class_numbers(task: Task, labels: Sequence[Any], source: str) -> np.ndarray:
    """Labels as class numbers, int64, `examples`. A named task accepts class numbers besides class names."""
    _check_not_missing(labels, task.label, source)
    numbers = {name: i for i, name in enumerate(task.label_names)}
    if task.source != OWN_DATA:
        numbers |= {str(i): i for i in range(task.outputs)}
    names = [_class_name(label, task.label, source) for label in labels]
    unknown = [i for i, name in enumerate(names) if name not in numbers]
    if unknown:
        distinct = sorted({names[i] for i in unknown})
        shown = ", ".join(map(repr, distinct[:SHOWN])) + (", ..." if len(distinct) > SHOWN else "")
        hint = "-1 marks a test split without labels: use a labelled split. " if distinct == ["-1"] else ""
        classes = ", ".join(map(repr, task.label_names[:20])) + (", ..." if task.outputs > 20 else "")
        raise AutorankError(
            f"Column {task.label!r} of {source} has labels that are not classes of task {task.name!r}: {shown} "
            f"in {rows(unknown)} (counted from 1, {len(unknown)} in all). {hint}"
            f"The training data's classes are {classes}."
        )
    return np.array([numbers[name] for name in names], np.int64)
