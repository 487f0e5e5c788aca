"""Definition of a task (`Task`), of what depends on its kind (`TaskKind`), and its data for training (`TaskData`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autorank.modeling.heads import Head, ProblemType
from autorank.spec import TaskSpec
from autorank.tasks.own_metric import OwnMetric
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.stratified import hold_out, tune_part
from autorank.tasks.splits.table import Table
from autorank.tasks.splits.tokenized import Split, Tokenization

CORRELATIONS = ("pearson_spearman", "pearson", "spearman")  # metrics of regression; their mean first


@dataclass(frozen=True)
class TaskKind(ABC):
    """What depends on the kind of a task. A new kind is a subclass in a module of its own, see `tasks/kinds/`.

    Attributes:
        name: Name in lists and messages.
        head: Form of the model.
        problem_type: Meaning of a sequence classifier's outputs; None: one of several classes.
        metrics: Metrics that the user can choose as the score.
        column_type: MLflow's type of the labels of named tasks.
        objective: Module and class of loss and metrics, `autorank.training.objectives.labels:RegressionObjective`.
    """

    name: ClassVar[str]
    head: ClassVar[Head]
    problem_type: ClassVar[ProblemType | None] = None
    metrics: ClassVar[tuple[str, ...]]
    column_type: ClassVar[str] = "string"
    objective: ClassVar[str]

    def __str__(self) -> str:
        return self.name

    def outputs(self, label_names: tuple[str, ...]) -> int:
        """Return the width of the head, one output for each class: none for language models, which have no head."""
        return len(label_names)

    @abstractmethod
    def to_examples(self, task: Task, table: Table, train: bool) -> Examples:
        """Check a task's columns and convert them to examples.

        Args:
            task: The task.
            table: Its text columns, checked unless the task writes text, and its label column.
            train: Whether this is the training split.

        Returns:
            The examples.

        Raises:
            AutorankError: The columns are invalid.
        """

    def describe(self, task: Task, train: Examples) -> str:
        """Describe labels or references in a line, so that the user sees how they were interpreted.

        Args:
            task: The task.
            train: The training split.

        Returns:
            The text; empty if there is nothing to say.
        """
        return ""

    @abstractmethod
    def tokenization(self, task: Task, spec: TaskSpec, model: str, tokenizer: Any) -> Tokenization:
        """Choose how examples are tokenized for a model.

        Args:
            task: The task.
            spec: The user's options for the task.
            model: Directory or name of the base model on the Hub.
            tokenizer: Its tokenizer.

        Returns:
            The tokenization.

        Raises:
            AutorankError: The tokenizer or the model cannot be used for such tasks.
        """

    def validation_part(self, labels: np.ndarray) -> np.ndarray:
        """Choose the training examples that are held out where there is no validation split; a tenth of all by default.

        Args:
            labels: Label of each example, `examples`.

        Returns:
            Indices in ascending order, the same ones every time; none if there are too few examples.
        """
        return hold_out(np.zeros(len(labels)))

    def tune_part(self, task: Task, labels: np.ndarray, ratio: float) -> np.ndarray:
        """Choose the training examples that a search selects on (`--tune-split`), stratified by label by default.

        Args:
            task: The task.
            labels: Label of each example, `examples`.
            ratio: Fraction of the examples, above 0 and at most 1/2.

        Returns:
            Indices in ascending order, the same ones every time.

        Raises:
            AutorankError: There are too few examples.
        """
        return tune_part(labels, ratio)


@dataclass(frozen=True)
class Task:
    """Definition of a task: its columns, its kind, its metrics and its defaults for training.

    The defaults for training are those of microsoft/LoRA's scripts for RoBERTa-base, which LoRA-drop also uses, unless
    `source` names others.

    Attributes:
        name: Name on the command line.
        kind: Kind of task.
        text: One or two text columns; for spans the question and the context.
        label: Column to be predicted.
        label_names: Names of the classes; empty for other kinds.
        metrics: Names of the metrics, see `tasks/metrics/`; the first is the score.
        validation: Validation splits. MNLI has two, scored together and separately. Empty: held out of train.
        hub: Repository and configuration on the Hub.
        model: Default base model.
        epochs: Default number of epochs.
        batch_size: Default batch size.
        max_length: Default maximum length in tokens.
        eval_examples: Default number of examples of each split in an evaluation that is not final. None: all.
        template: Template of prompts, see `tasks/prompts/completions.py`.
        unanswerable: For spans: whether there are questions without an answer.
        source: Where the task and its defaults come from.
        own_metric: The score, if it is a metric of the user's own.
    """

    name: str
    kind: TaskKind
    text: tuple[str, ...]
    label: str
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    validation: tuple[str, ...] = ("validation",)
    hub: tuple[str, str] | None = None
    model: str = "FacebookAI/roberta-base"
    epochs: int = 10
    batch_size: int = 16
    max_length: int = 512
    eval_examples: int | None = None
    template: str = "{}"
    unanswerable: bool = False
    source: str = ""
    own_metric: OwnMetric | None = None

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return self.kind.outputs(self.label_names)


@dataclass(frozen=True)
class TaskData:
    """A task with its tokenized splits.

    Attributes:
        task: The task.
        train: The training split.
        validation: The evaluated splits by name: the task's validation splits, or `tune`, a part held out of train.
        digest: Digest of the content. Equal digests mean equal training examples, even if one evaluates on `tune` and
            the other on the validation splits.
        pad_id: Padding token.
        tokenizer: The tokenizer, if predictions are text.
        length: Number of tokens to which texts are truncated.
        ends: Tokens that end a generated text.
        labels: How the labels or references of the training split were interpreted; may be empty.
        notes: What the user should know about how the data was read.
    """

    task: Task
    train: Split
    validation: dict[str, Split]
    digest: str
    pad_id: int
    tokenizer: Any = None
    length: int = 0
    ends: tuple[int, ...] = ()
    labels: str = ""
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """The notes, and a sentence about the number of texts that were truncated."""
        return [*self.notes, *filter(None, [self._truncation_note])]

    @property
    def _truncation_note(self) -> str | None:
        """The number of texts that were truncated; None if there are none or the number is unknown."""
        splits = {"train": self.train, **self.validation}
        counts = [f"{split.truncated.sum():,} of {len(split):,} ({name})" for name, split in splits.items()
                if split.truncated is not None and split.truncated.any()]  # fmt: skip
        if not counts:
            return None
        return (
            f"Texts are truncated to {self.length} tokens: {', '.join(counts)}. Change the limit with --max-length N, "
            "up to the model's maximum."
        )
