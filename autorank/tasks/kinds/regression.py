"""Regression: a number for each example."""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import override

from autorank.modeling import heads
from autorank.spec import TaskSpec
from autorank.tasks.data import labels as label_columns
from autorank.tasks.data import texts
from autorank.tasks.definition import CORRELATIONS, Task, TaskKind
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table
from autorank.tasks.splits.tokenized import Tokenization


class Regression(TaskKind):
    """A number."""

    name = "regression"
    head = heads.SEQUENCE
    problem_type = "regression"
    column_type = "double"
    metrics = CORRELATIONS
    objective = "autorank.training.objectives.labels:RegressionObjective"

    @override
    def outputs(self, label_names: tuple[str, ...]) -> int:
        """Return 1."""
        return 1

    @override
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Convert labels to numbers."""
        values = label_columns.targets(task, table)
        if train:
            label_columns.check_varied(task, np.unique(values).tolist(), table)
        return Examples(tuple(table[name] for name in task.text), values)

    @override
    def describe(self, task: Task, train: Examples) -> str:
        """The range of the numbers."""
        return f"{task.label}: numbers from {train.labels.min():g} to {train.labels.max():g}"

    @override
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Tokenize one or two texts."""
        return texts.tokenization(task, spec, tokenizer)


REGRESSION = Regression()
