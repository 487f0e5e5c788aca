"""Converts labels to class numbers or regression targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.examples import OWN_DATA, SHOWN, rows


def check_varied(task: Task, values: Sequence[Any], source: str) -> None:
    """Check that the labels of a training split differ.

    Args:
        task: The task.
        values: The distinct labels.
        source: Where they come from, for messages.

    Raises:
        AutorankError: There is only one.
    """
    if len(values) < 2:
        raise AutorankError(
            f"Column {task.label!r} of {source} has only one value, {values[0]!s}, so there is nothing to learn. "
            "Add rows with another label, or name another column with --label."
        )


def are_fractions(labels: Sequence[Any], name: str, source: str) -> bool:
    """Whether labels are all numbers, at least one of them with a fraction, which means regression.

    Args:
        labels: The label column.
        name: Its name.
        source: Where it comes from, for messages.

    Returns:
        True for regression, False for classes.

    Raises:
        AutorankError: A label is missing, or one of such numbers is not finite.
    """
    _check_not_missing(labels, name, source)
    numbers = [number for value in labels if (number := _number(value)) is not None]
    if len(numbers) < len(labels) or all(number.is_integer() for number in numbers):
        return False
    targets(labels, name, source)  # raises if one is not finite
    return True


def class_names(labels: Sequence[Any], name: str, source: str) -> tuple[str, ...]:
    """Find the classes: each distinct value, sorted by number, or else by name.

    Args:
        labels: The label column.
        name: Its name.
        source: Where it comes from, for messages.

    Returns:
        The names of the classes.

    Raises:
        AutorankError: A label is no text or number.
    """
    return tuple(sorted({_class_name(value, name, source) for value in labels}, key=_sort_key))


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


def targets(labels: Sequence[Any], name: str, source: str) -> np.ndarray:
    """Convert labels to numbers.

    Args:
        labels: The label column.
        name: Its name.
        source: Where it comes from, for messages.

    Returns:
        float32, `examples`.

    Raises:
        AutorankError: A label is missing, no number or not finite.
    """
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


def class_numbers(task: Task, labels: Sequence[Any], source: str) -> np.ndarray:
    """Convert labels to class numbers. A named task accepts class numbers besides class names.

    Args:
        task: The task.
        labels: The label column.
        source: Where it comes from, for messages.

    Returns:
        int64, `examples`.

    Raises:
        AutorankError: A label is missing or not one of the task's classes.
    """
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
