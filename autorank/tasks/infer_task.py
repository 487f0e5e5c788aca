"""Infers the task of the user's own data from its labels."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from autorank.defaults import LabelType
from autorank.errors import AutorankError
from autorank.tasks.data.label_values import Meaning, class_names, meanings
from autorank.tasks.data.labels import DECIMAL_COMMA, are_fractions
from autorank.tasks.definition import CORRELATIONS, Task
from autorank.tasks.kinds import multi_label
from autorank.tasks.kinds.classification import CLASSIFICATION
from autorank.tasks.kinds.regression import REGRESSION
from autorank.tasks.splits.examples import OWN_DATA
from autorank.tasks.splits.table import Table

# Matthews besides accuracy: it depends neither on the order of the classes nor on their shares.
OWN_METRICS = ("accuracy", "matthews")


def infer_task(
    name: str, text: tuple[str, ...], table: Table, label: str, label_type: LabelType | None = None,
    classes: tuple[str, ...] = (),
) -> Task:  # fmt: skip
    """Define a task for the user's own data from the labels of its training split.

    Labels that are all numbers, at least one with a fraction, mean regression. All others mean classification: each
    distinct value is a class and keeps its name; classes are sorted by number, or else by name. Lists mean multi-label
    classification.

    Args:
        name: The task's name.
        text: Its text columns.
        table: The training split.
        label: Its label column.
        label_type: What labels are, in place of what they look like.
        classes: The classes of multi-label classification, if they are known.

    Returns:
        The task.

    Raises:
        AutorankError: A label is missing, is neither text nor a number, or has a decimal comma.
    """
    if label_type is None and multi_label.are_lists(table, label):
        return multi_label.own_task(name, text, table, label, classes)
    values = meanings(table, label)
    if label_type is None:
        _check_decimal_commas(values, table, label)
    if label_type == "number" or (label_type is None and are_fractions(values)):
        return Task(name, REGRESSION, text, label, (), CORRELATIONS, source=OWN_DATA)
    classes = class_names(table, label, values)
    return Task(name, CLASSIFICATION, text, label, classes, OWN_METRICS, source=OWN_DATA)


def _check_decimal_commas(values: Sequence[Meaning], table: Table, label: str) -> None:
    """Raise if labels are numbers, some of them with a decimal comma: each would be a class."""
    texts = [value for value in values if not isinstance(value, Decimal)]
    if texts and all(map(DECIMAL_COMMA.fullmatch, texts)):
        raise AutorankError(
            f"Column {label!r} of {table.source} has numbers with a comma, such as {texts[0]!r}. Write decimals "
            "with a point, or give --label-type class if they are names of classes."
        )
