"""Converts columns from a file or the Hub to the examples of a task."""

from __future__ import annotations

from autorank.errors import AutorankError
from autorank.tasks.definition import Task
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table, is_unicode


def to_examples(task: Task, table: Table, train: bool = False) -> Examples:
    """Check a task's columns and convert them to examples.

    Args:
        task: The task.
        table: Its text columns and its label column.
        train: Whether this is the training split.

    Returns:
        The examples.

    Raises:
        AutorankError: There are no rows, a text is null, a label is missing, not finite or unknown, or all labels of
            the training split are equal.
    """
    if task.kind.head.generates:
        return task.kind.to_examples(task, table, train)
    if not len(table[task.label]):
        raise AutorankError(f"{table.source} has no rows. Use a file with at least two labeled rows.")
    for name in task.text:
        _check_texts(table, name)
    return task.kind.to_examples(task, table, train)


def _check_texts(table: Table, name: str) -> None:
    """Empty text is allowed; null, numbers and half characters are not."""
    texts = table[name]
    null = [i for i, text in enumerate(texts) if text is None]
    if null:
        raise AutorankError(
            f"Column {name!r} of {table.source} has no text in {table.rows(null)}. Fill in these texts (an empty text "
            "is allowed) or remove the rows."
        )
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise AutorankError(
            f"Column {name!r} of {table.source} is not text: {str(texts[wrong[0]])[:80]!r} in {table.rows(wrong)}. "
            "Name the text columns with --text."
        )
    broken = [i for i, text in enumerate(texts) if not is_unicode(text)]
    if broken:
        raise AutorankError(
            f"Column {name!r} of {table.source} contains an unpaired surrogate in {table.rows(broken)}. "
            "Correct these texts or remove the rows; in Python: text.encode('utf-8', 'replace').decode()."
        )
