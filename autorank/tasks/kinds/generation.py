"""Text to text: a model writes the completion of a prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import override

from autorank.modeling import heads
from autorank.spec import TaskSpec
from autorank.tasks.definition import Task, TaskKind
from autorank.tasks.metrics import text
from autorank.tasks.metrics.scripts import script_of
from autorank.tasks.prompts import completions
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.stratified import HELD_OUT, HOLD_OUT_SEED, TUNE_SEED, whole_prompts
from autorank.tasks.splits.table import Table
from autorank.tasks.splits.tokenized import Tokenization


class Generation(TaskKind):
    """A text."""

    name = "generation"
    head = heads.TEXT
    metrics = (*text.FORWARD, *text.METRICS)
    objective = "autorank.training.objectives.generation:GenerationObjective"

    @override
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Convert prompts and completions; see `completions.to_examples`."""
        return completions.to_examples(task, table)

    @override
    def describe(self, task: Task, train: Examples) -> str:
        """How ROUGE and BLEU split the references into words, if not as English."""
        if not set(task.metrics) & set(text.BY_WORDS):
            return ""
        return script_of(map(str, train.references or ())).description

    @override
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Tokenize prompts and completions; see `prompting.prompting`."""
        from autorank.tasks.prompts.prompting import prompting

        return prompting(task, spec, model, tokenizer).tokenization

    @override
    def validation_part(self, labels: np.ndarray) -> np.ndarray:
        """A tenth of the prompts with all of their completions."""
        return whole_prompts(labels, HELD_OUT, HOLD_OUT_SEED)

    @override
    def tune_part(self, task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
        """`ratio` of the prompts with all of their completions."""
        return whole_prompts(labels, ratio, TUNE_SEED)


GENERATION = Generation()
