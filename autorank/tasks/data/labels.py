"""Converts labels to class numbers or regression targets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from autorank.errors import AutorankError, listed
from autorank.tasks.data.label_values import Meaning, is_plain, is_uniform, meaning, meanings, respelled
from autorank.tasks.definition import Task
from autorank.tasks.splits.examples import OWN_DATA
from autorank.tasks.splits.table import MAX_LISTED, Table

DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
CLASSES = 20  # class names that a message lists
DESCRIBED = 8  # classes that `describe_classes` lists


def check_varied(task: Task, values: Sequence[Any], table: Table) -> None:
    """Check that the labels of a training split differ.

    Args:
        task: The task.
        values: The distinct labels.
        table: The training split.

    Raises:
        AutorankError: There is only one.
    """
    if len(values) < 2:
        raise AutorankError(
            f"Column {task.label!r} of {table.source} has only one value, {values[0]!s}, so there is nothing to learn. "
            "Add rows with another label, or name another column with --label."
        )


def are_fractions(values: Sequence[Meaning]) -> bool:
    """Whether labels are all numbers, at least one of them with a fraction, which means regression."""
    numbers = [value for value in values if isinstance(value, Decimal)]
    return len(numbers) == len(values) and any(
        number.is_finite() and number != number.to_integral_value() for number in numbers
    )


def targets(task: Task, table: Table) -> np.ndarray:
    """Convert labels to numbers.

    Args:
        task: The task.
        table: Its columns.

    Returns:
        float32, `examples`.

    Raises:
        AutorankError: A label is missing, no number or not finite.
    """
    values = meanings(table, task.label)
    with np.errstate(over="ignore"):
        numbers = np.array([float(x) if isinstance(x, Decimal) else np.nan for x in values], np.float32)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        first = table[task.label][wrong[0]]
        hint = " Write decimals with a point." if isinstance(first, str) and DECIMAL_COMMA.fullmatch(first) else ""
        raise AutorankError(
            f"Column {task.label!r} of {table.source} must hold finite numbers, but it has "
            f"{first!r} in {table.rows(wrong)}. Correct these labels or remove the rows.{hint}"
        )
    return numbers


def class_numbers(task: Task, table: Table) -> tuple[np.ndarray, list[str]]:
    """Convert labels to class numbers. A named task accepts class numbers besides class names.

    Args:
        task: The task.
        table: Its columns.

    Returns:
        int64, `examples`; and warnings about labels that are written otherwise than their class.

    Raises:
        AutorankError: A label is missing or not one of the task's classes.
    """
    values, labels = meanings(table, task.label), table[task.label]
    numbers = {meaning(name): i for i, name in enumerate(task.label_names)}
    if task.source != OWN_DATA:
        numbers |= {Decimal(i): i for i in range(task.outputs)}
    unknown = [i for i, value in enumerate(values) if value not in numbers]
    if unknown:
        distinct = sorted({str(labels[i]) for i in unknown})
        hint = "-1 marks a test split without labels: use a labeled split. " if distinct == ["-1"] else ""
        raise AutorankError(
            f"Column {task.label!r} of {table.source} has labels that are not classes of task {task.name!r}: "
            f"{listed(list(map(repr, distinct)), MAX_LISTED)} in {table.rows(unknown)}. {hint}"
            f"The training data's classes are {listed(list(map(repr, task.label_names)), CLASSES)}."
        )
    classes = [numbers[value] for value in values]
    rows = [i for i, value in enumerate(values) if task.source == OWN_DATA or isinstance(value, str)]
    notes = respelling_notes(task, table, [labels[i] for i in rows], [classes[i] for i in rows])
    return np.array(classes, np.int64), notes


def describe_classes(task: Task, counts: np.ndarray) -> str:
    """Describe classes and their shares in a line: `label: 3 classes: neg 40%, neutral 25%, pos 35%`.

    Args:
        task: The task.
        counts: Number of labels of each class, `classes`.

    Returns:
        The line; of many classes, the most frequent ones. If there are more than two classes and all are numbers, the
        line ends with the option that makes them numbers.
    """
    numbers = all(isinstance(meaning(name), Decimal) for name in task.label_names)
    order = range(len(counts)) if len(counts) <= DESCRIBED else np.argsort(-counts, kind="stable")
    names = [repr(name) if numbers else name for name in task.label_names]
    shares = listed([f"{names[i]} {_percent(counts[i] / counts.sum())}" for i in order], DESCRIBED)
    may_be_numbers = numbers and len(counts) > 2 and task.source == OWN_DATA
    hint = " (to predict numbers: --label-type number)" if may_be_numbers else ""
    return f"{task.label}: {len(counts)} classes: {shares}{hint}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.005 else f"{100 * share:.2f}%"


def respelling_notes(task: Task, table: Table, labels: Sequence[Any], classes: Sequence[int]) -> list[str]:
    """Return warnings about labels that are written otherwise than their class.

    Args:
        task: The task.
        table: Where the labels come from.
        labels: The labels; of named tasks without numbers, which are class numbers.
        classes: The class number of each.

    Returns:
        One warning, or none.
    """
    texts = [(label, task.label_names[i]) for label, i in zip(labels, classes, strict=True) if isinstance(label, str)]
    if is_uniform([meaning(name) or "" for name in task.label_names]) and not table.typed:
        texts = [(label, name) for label, name in texts if not is_plain(label)]  # csv has no other form of numbers
    different = respelled(*zip(*texts, strict=True)) if texts else []
    if not different:
        return []
    return [
        f"Column {task.label!r} of {table.source}: labels that differ in blanks, Unicode form or the form of a number "
        f"are one class. Read {listed(different, MAX_LISTED)}."
    ]
