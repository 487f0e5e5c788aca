"""Extractive question answering: the answer is a span of a context."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from autorank.modeling import heads
from autorank.spec import TaskSpec
from autorank.tasks.data import spans, windows
from autorank.tasks.data.texts import max_length
from autorank.tasks.definition import Task, TaskKind
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table
from autorank.tasks.splits.tokenized import Tokenization


class Span(TaskKind):
    """A span of a context."""

    name = "span"
    head = heads.SPAN
    metrics = ("f1", "exact_match")
    objective = "autorank.training.objectives.spans:SpanObjective"

    @override
    def outputs(self, label_names: tuple[str, ...]) -> int:
        """Return 2: start and end."""
        return 2

    @override
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Convert questions and answers; see `spans.to_examples`."""
        return spans.to_examples(task, table)

    @override
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Split contexts into overlapping windows."""
        length = max_length(task, spec, tokenizer)
        windows.check(model, tokenizer, length)
        return Tokenization(
            lambda examples: windows.tokenize(examples, tokenizer, length), windows.tag(length), length, windows.Windows
        )


SPAN = Span()
