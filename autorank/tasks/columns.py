"""Converts columns from a file or the Hub to the examples of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.examples import Columns, Examples, rows


def to_examples(task: Task, columns: Columns, source: str, train: bool = False) -> Examples:
    """Check a task's columns and convert them to examples.

    Args:
        task: The task.
        columns: Its text columns and its label column.
        source: Where the columns come from (a file, or a split on the Hub), for messages.
        train: Whether this is the training split.

    Returns:
        The examples.

    Raises:
        AutorankError: There are no rows, a text is null, a label is missing, not finite or unknown, or all labels of
            the training split are equal.
    """
    if task.kind.head.generates:
        return task.kind.to_examples(task, columns, source, train)
    if not len(columns[task.label]):
        raise AutorankError(f"{source} has no rows. Use a file with at least two labelled rows.")
    for name in task.text:
        _check_texts(columns[name], name, source)
    return task.kind.to_examples(task, columns, source, train)


def _check_texts(texts: Sequence[Any], name: str, source: str) -> None:
    """Empty text is allowed; null and numbers are not."""
    null = [i for i, text in enumerate(texts) if text is None]
    if null:
        raise AutorankError(
            f"Column {name!r} of {source} has no text in {rows(null)} (counted from 1, {len(null)} in all). "
            "Fill in these texts (an empty text is allowed) or remove the rows."
        )
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {source} is not text: {rows(wrong)} has {texts[wrong[0]]!r}. "
            "Name the text columns with --text."
        )
