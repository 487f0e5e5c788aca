"""Multi-label classification: any number of classes for each example."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from typing_extensions import override

from autorank.errors import AutorankError, listed
from autorank.modeling import heads
from autorank.spec import TaskSpec
from autorank.tasks.data import label_values, texts
from autorank.tasks.data.labels import respelling_notes
from autorank.tasks.definition import Task, TaskKind
from autorank.tasks.metrics.multi_label import METRICS
from autorank.tasks.splits.examples import OWN_DATA, Examples
from autorank.tasks.splits.stratified import tune_part
from autorank.tasks.splits.table import MAX_LISTED, Table
from autorank.tasks.splits.tokenized import Tokenization

DESCRIBED = 8  # classes that `describe` lists
FLAGS: dict[label_values.Meaning | None, bool] = {Decimal(0): False, Decimal(1): True, "false": False, "true": True}


class MultiLabel(TaskKind):
    """Any number of classes: a sigmoid for each."""

    name = "multi-label classification"
    head = heads.SEQUENCE
    problem_type = "multi_label_classification"
    metrics = METRICS
    objective = "autorank.training.objectives.labels:MultiLabelObjective"

    @override
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Convert lists of classes to rows of zeros and ones, float32, `examples x classes`."""
        numbers = {label_values.meaning(name): i for i, name in enumerate(task.label_names)}
        lists = label_lists(table, task.label)
        rows = [[label_values.meaning(label) for label in labels] for labels in lists]
        if repeated := [i for i, row in enumerate(rows) if len(set(row)) < len(row)]:
            raise AutorankError(
                f"Column {task.label!r} of {table.source} repeats labels in {table.rows(repeated)}, such as "
                f"{lists[repeated[0]]!r}. Tags of tokens (NER) are not supported. In lists of classes, name each once."
            )
        unknown = [i for i, row in enumerate(rows) if any(value not in numbers for value in row)]
        if unknown:
            missing = sorted({str(value) for i in unknown for value in rows[i] if value not in numbers})
            raise AutorankError(
                f"Column {task.label!r} of {table.source} has labels that the training data do not have: "
                f"{listed(list(map(repr, missing)), MAX_LISTED)} in {table.rows(unknown)}. Correct these rows or "
                "remove them."
            )
        labels = np.zeros((len(rows), len(numbers)), np.float32)
        for i, row in enumerate(rows):
            labels[i, [numbers[value] for value in row]] = 1.0
        if train and len(np.unique(labels, axis=0)) < 2:
            raise AutorankError(
                f"All rows of column {task.label!r} of {table.source} have the same labels, so there is nothing to "
                "learn. Add rows with other labels, or name another column with --label."
            )
        classes = [numbers[value] for row in rows for value in row]
        notes = respelling_notes(task, table, [label for labels in lists for label in labels], classes)
        return Examples(tuple(table[name] for name in task.text), labels, notes=tuple(notes))

    @override
    def describe(self, task: Task, train: Examples) -> str:
        """The classes with the share of examples that have them, the most frequent first if there are many."""
        labels = train.labels
        shares = labels.mean(axis=0)
        order = range(len(shares)) if len(shares) <= DESCRIBED else np.argsort(-shares, kind="stable")
        classes = listed([f"{task.label_names[i]} {100 * shares[i]:.2g}%" for i in order], DESCRIBED)
        return f"{task.label}: any of {len(shares)} classes, {labels.sum(axis=1).mean():.1f} a row: {classes}"

    @override
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Tokenize one or two texts."""
        return texts.tokenization(task, spec, tokenizer)

    @override
    def tune_part(self, task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
        """`ratio` of all examples."""
        return tune_part(np.zeros(len(labels)), ratio)


MULTI_LABEL = MultiLabel()


def own_task(name: str, text: tuple[str, ...], table: Table, label: str, classes: tuple[str, ...] = ()) -> Task:
    """Define a task for the user's own data whose labels are lists.

    Args:
        name: The task's name.
        text: Its text columns.
        table: The training split.
        label: Its label column.
        classes: The classes; by default all labels in the lists, sorted.

    Returns:
        The task.

    Raises:
        AutorankError: A row has no list of texts or numbers, or all lists are empty, or vectors of zeros and ones.
    """
    lists = label_lists(table, label)
    if not classes and _are_vectors(lists):
        raise AutorankError(
            f"Column {label!r} of {table.source} has vectors of {len(lists[0])} zeros and ones. Store the names of the "
            'classes of each row, such as ["toxic", "insult"], or a column of zeros and ones for each class, and name '
            "the columns with --label A,B,..."
        )
    flat = [label for labels in lists for label in labels]
    column = Table({label: flat}, table.source)
    names = label_values.class_names(column, label, label_values.meanings(column, label))
    if not classes and not names:
        raise AutorankError(
            f"All lists of column {label!r} of {table.source} are empty, so there are no classes. Name another column "
            "with --label."
        )
    return Task(name, MULTI_LABEL, text, label, classes or names, METRICS, source=OWN_DATA)


def are_lists(table: Table, label: str) -> bool:
    """Whether labels are lists, by the first labeled row.

    Args:
        table: The training split.
        label: The label column.

    Returns:
        Whether its label is a list, also one that csv holds as text.
    """
    first = next((value for value in table[label] if value is not None and value != ""), None)
    return _as_list(first) is not None or (isinstance(first, str) and _lacks_commas(first))


def label_lists(table: Table, label: str) -> list[list[Any]]:
    """Return the labels of each row.

    Args:
        table: The table.
        label: A column of lists of texts or numbers; in csv as text, `["a", "b"]`.

    Returns:
        A list for each row.

    Raises:
        AutorankError: A row has something else.
    """
    lists = [_as_list(value) for value in table[label]]
    wrong = [i for i, row in enumerate(lists) if row is None or not all(_is_label(label, table.typed) for label in row)]
    if wrong:
        raise AutorankError(
            f"Column {label!r} of {table.source} holds lists of labels, but {table[label][wrong[0]]!r} in "
            f"{table.rows(wrong)} is not a list of texts or numbers, with commas between them. Correct these rows; an "
            "empty list, [], means none of the classes."
        )
    return [labels for labels in lists if labels is not None]


def combined(table: Table, columns: Sequence[str], label: str) -> Table:
    """Add a column of lists made from columns of zeros and ones, one for each class.

    Args:
        table: The table.
        columns: The columns; their names are the classes.
        label: Name of the new column.

    Returns:
        The table with the column.

    Raises:
        AutorankError: A value is not 0, 1, true or false.
    """
    flags = {}
    for name in columns:
        column_flags = [FLAGS.get(label_values.meaning(value)) for value in table[name]]
        wrong = [i for i, flag in enumerate(column_flags) if flag is None]
        if wrong:
            raise AutorankError(
                f"--label names several columns, one for each class, so each must hold 0 or 1, but column {name!r} of "
                f"{table.source} has {table[name][wrong[0]]!r} in {table.rows(wrong)}. Correct these rows, or name one "
                "label column."
            )
        flags[name] = column_flags
    lists = [[name for name in columns if flags[name][i]] for i in range(len(table))]
    return replace(table, columns={**table.columns, label: lists})


def _are_vectors(lists: Sequence[Sequence[Any]]) -> bool:
    """Whether lists are vectors of zeros and ones, an entry for each class, rather than lists of classes."""
    lengths = {len(labels) for labels in lists}
    values = {label_values.meaning(label) for labels in lists for label in labels}
    return len(lengths) == 1 and min(lengths) > 1 and values <= FLAGS.keys()


def _is_label(value: Any, typed: bool) -> bool:
    meaning = label_values.meaning(value)
    return meaning not in (None, "") and (typed or not label_values.is_nan(meaning))


def _as_list(value: Any) -> list[Any] | None:
    """A list, also one written as JSON or Python, as csv files have it; None for all else."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    for parse in (json.loads, _python_list):
        try:
            parsed = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list):
            return parsed
    return None


def _python_list(value: str) -> Any:
    """The value of a text in Python's syntax; ValueError for `['a' 'b']`, which Python reads as `['ab']`."""
    if _lacks_commas(value):
        raise ValueError(value)
    return ast.literal_eval(value)


def _lacks_commas(value: str) -> bool:
    """Whether a text is a list as NumPy prints it, `['a' 'b']`."""
    if not (value.strip().startswith("[") and value.strip().endswith("]")):
        return False
    try:
        tokens = [token.type for token in tokenize.generate_tokens(io.StringIO(value.strip()).readline)]
    except (tokenize.TokenError, SyntaxError, ValueError):
        return False
    return (tokenize.STRING, tokenize.STRING) in pairwise(token for token in tokens if token != tokenize.NL)
