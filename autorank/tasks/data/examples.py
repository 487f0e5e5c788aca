"""Raw examples: columns as they were read, checked, with labels as numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.definition import CORRELATIONS, Task

Columns = Mapping[str, Sequence[Any]]

OWN = "own data"  # the source of the user's own tasks
SHOWN = 5  # row numbers and values that a message names


@dataclass(frozen=True)
class Examples:
    """A split before the tokenizer.

    texts: one or two columns; labels: int64 (classification; the stratum, for spans; which prompt, for
    generation) or float32 (regression), `examples`; references: as `Split` has them, plain values.
    """

    texts: tuple[Sequence[str], ...]
    labels: np.ndarray
    references: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Examples:
        texts = tuple([column[i] for i in indices] for column in self.texts)
        references = None if self.references is None else [self.references[i] for i in indices]
        return Examples(texts, self.labels[indices], references)

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        found = hashlib.sha256()
        for column in self.texts:
            found.update(np.fromiter(map(len, column), np.int64, len(column)).tobytes())
            found.update("".join(column).encode("utf-8", "surrogatepass"))
        found.update(f"{self.labels.dtype}".encode() + self.labels.tobytes())
        if self.references is not None:
            found.update(json.dumps(self.references).encode())
        return found.hexdigest()


def checked(task: Task, columns: Columns, where: str, train: bool = False) -> Examples:
    """The task's columns of `where` (a file, or a split on the Hub) as examples.

    Raises:
        AutorankError: there are no rows, a text is null, a label is missing, not finite or unknown, or, in
            the training split, all labels are the same.
    """
    if task.kind == "generation":
        from autorank.tasks import generation  # which needs this module

        return generation.pairs(task, columns, where)
    labels = columns[task.label]
    if not len(labels):
        raise AutorankError(f"{where} has no rows. Give a file with at least two labelled rows.")
    for name in task.text:
        _check_text(columns[name], name, where)
    if task.kind == "span":
        from autorank.tasks.data import spans  # which needs this module

        return spans.checked(task, columns, where)
    classify = task.kind == "classification"
    values = _class_numbers(task, labels, where) if classify else _numbers(labels, task.label, where)
    if train and len(np.unique(values)) < 2:
        value = task.label_names[int(values[0])] if classify else values[0]
        raise AutorankError(
            f"Column {task.label!r} of {where} has only one value, {value!s}: there is nothing to learn. "
            "Add rows with another label, or name another column with --label."
        )
    return Examples(tuple(columns[name] for name in task.text), values)


def own_task(name: str, text: tuple[str, ...], label: str, labels: Sequence[Any], where: str) -> Task:
    """The definition of the user's own task, found from the labels of its training data.

    Labels that are numbers, with a fraction somewhere: regression. Any others: classification; each distinct
    value is a class and keeps its name, and classes are in order of number or else of name.
    """
    _refuse_missing(labels, label, where)
    numbers = [number for value in labels if (number := _number(value)) is not None]
    if len(numbers) == len(labels) and not all(number.is_integer() for number in numbers):
        _numbers(labels, label, where)  # nothing but finite numbers
        return Task(name, "regression", text, label, (), CORRELATIONS, source=OWN)
    names = {_class_name(value, label, where) for value in labels}
    # Matthews besides accuracy: it cares neither which class is which nor how many there are of each.
    scores = ("accuracy", "matthews")
    return Task(name, "classification", text, label, tuple(sorted(names, key=_order)), scores, source=OWN)


def rows(numbers: Iterable[int]) -> str:
    """`rows 3, 17, 20 and 4 more`, of indices from 0; rows are counted from 1, a header not counted."""
    listed = [number + 1 for number in numbers]
    shown = ", ".join(map(str, listed[:SHOWN]))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"row{'s' if len(listed) > 1 else ''} {shown}{more}"


def _check_text(texts: Sequence[Any], name: str, where: str) -> None:
    """Empty text is text; null is not, nor is a number."""
    null = [i for i, text in enumerate(texts) if text is None]
    if null:
        raise AutorankError(
            f"Column {name!r} of {where} has no text in {rows(null)} (counted from 1, {len(null)} in all). "
            "Fill them in (an empty text is allowed) or take these rows out."
        )
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {where} is not text: {rows(wrong)} has {texts[wrong[0]]!r}. "
            "Name the text columns with --text."
        )


def _refuse_missing(labels: Sequence[Any], name: str, where: str) -> None:
    missing = [i for i, label in enumerate(labels) if label is None or str(label).strip() == ""]
    if missing:
        raise AutorankError(
            f"Column {name!r} of {where} has no label in {rows(missing)} (counted from 1, {len(missing)} in "
            "all). Fill them in or take these rows out."
        )


def _number(value: Any) -> float | None:
    """The value as a number if it is one or is written as one; true and false are none."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _numbers(labels: Sequence[Any], name: str, where: str) -> np.ndarray:
    """Labels as float32, `examples`; all must be finite."""
    _refuse_missing(labels, name, where)
    numbers = [_number(label) for label in labels]
    wrong = [i for i, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {where} must hold finite numbers, but {rows(wrong)} (counted from 1, "
            f"{len(wrong)} in all) has {labels[wrong[0]]!r}. Correct these labels or take the rows out."
        )
    return np.array(numbers, np.float32)


def _order(name: str) -> tuple[float, str]:
    """Sorts class names: numbers by value, then the others by name."""
    number = _number(name)
    return (math.inf if number is None or math.isnan(number) else number, name)


def _class_name(value: Any, label: str, where: str) -> str:
    """How a class is called: the value as it is written in JSON; 1.0 is 1."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    number = _number(value)
    if number is None or isinstance(value, bytes):
        raise AutorankError(f"Column {label!r} of {where} holds {value!r}, which is no label. Use text or numbers.")
    return str(int(number)) if math.isfinite(number) and number.is_integer() else str(number)


def _class_numbers(task: Task, labels: Sequence[Any], where: str) -> np.ndarray:
    """Labels as class numbers, int64, `examples`. A named task's may be written as numbers or class names."""
    _refuse_missing(labels, task.label, where)
    known = {name: i for i, name in enumerate(task.label_names)}
    if task.source != OWN:
        known |= {str(i): i for i in range(task.outputs)}
    names = [_class_name(label, task.label, where) for label in labels]
    unknown = [i for i, name in enumerate(names) if name not in known]
    if unknown:
        distinct = sorted({names[i] for i in unknown})
        shown = ", ".join(map(repr, distinct[:SHOWN])) + (", ..." if len(distinct) > SHOWN else "")
        hint = "-1 marks a test split without labels: give a labelled one. " if distinct == ["-1"] else ""
        classes = ", ".join(map(repr, task.label_names[:20])) + (", ..." if task.outputs > 20 else "")
        raise AutorankError(
            f"Column {task.label!r} of {where} has labels that the task {task.name!r} does not know: {shown} "
            f"in {rows(unknown)} (counted from 1, {len(unknown)} in all). {hint}"
            f"The training data's classes are {classes}."
        )
    return np.array([known[name] for name in names], np.int64)
