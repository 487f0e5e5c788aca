"""Classification: one of several classes for each example."""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import override

from autorank.errors import AutorankError, listed
from autorank.modeling import heads
from autorank.spec import TaskSpec
from autorank.tasks.data import labels as label_columns
from autorank.tasks.data import texts
from autorank.tasks.definition import Task, TaskKind
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.stratified import TUNE_SEED, hold_out, stratified
from autorank.tasks.splits.table import MAX_LISTED, Table
from autorank.tasks.splits.tokenized import Tokenization


class Classification(TaskKind):
    """One of several classes."""

    name = "classification"
    head = heads.SEQUENCE
    column_type = "long"
    metrics = ("accuracy", "f1", "matthews", "macro_f1", "balanced_accuracy", "recall")
    objective = "autorank.training.objectives.labels:ClassificationObjective"

    @override
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Convert labels to class numbers."""
        numbers, notes = label_columns.class_numbers(task, table)
        if train:
            label_columns.check_varied(task, [task.label_names[i] for i in np.unique(numbers)], table)
        return Examples(tuple(table[name] for name in task.text), numbers, notes=tuple(notes))

    @override
    def describe(self, task: Task, train: Examples) -> str:
        """The classes with their shares, the most frequent first if there are many."""
        return label_columns.describe_classes(task, np.bincount(train.labels, minlength=task.outputs))

    @override
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Tokenize one or two texts."""
        return texts.tokenization(task, spec, tokenizer)

    @override
    def validation_part(self, labels: np.ndarray) -> np.ndarray:
        """A tenth of each class."""
        return hold_out(labels)

    @override
    def tune_part(self, task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
        """Choose `ratio` of each class.

        Raises:
            AutorankError: A class has fewer than two examples.
        """
        counts = np.bincount(labels, minlength=task.outputs)
        scarce = np.flatnonzero(counts < 2)
        if len(scarce):
            classes = listed([f"{task.label_names[i]!r} ({counts[i]})" for i in scarce], MAX_LISTED)
            raise AutorankError(
                f"--tune-split {ratio:g} needs two examples of each class, one to hold out and one to train on, but "
                f"the {len(labels)} training examples have too few of {classes}. Add examples of these classes "
                "(or increase --max-train-examples), or omit --tune-split."
            )
        return stratified(labels, ratio, TUNE_SEED)


CLASSIFICATION = Classification()
