"""Definition of a task (`Task`) and its data for training (`TaskData`, `Split`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

Kind = Literal["classification", "regression", "span", "generation"]
CORRELATIONS = ("pearson_spearman", "pearson", "spearman")  # metrics of regression; their mean first


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
        template: Template of prompts, see `tasks/generation.py`.
        unanswerable: For spans: whether there are questions without an answer.
        source: Where the task and its defaults come from.
    """

    name: str
    kind: Kind
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

    @property
    def outputs(self) -> int:
        """Width of the head: classes, 1 for regression, 2 for spans (start and end), 0 for generation (no head)."""
        return {"classification": len(self.label_names), "regression": 1, "span": 2, "generation": 0}[self.kind]


@dataclass(frozen=True)
class Split:
    """Tokenized examples, concatenated in flat arrays (memory-mapped if they come from the cache).

    Subclasses for spans and generation have further arrays, see `tasks/data/windows.py` and `tasks/data/pairs.py`.

    Attributes:
        ids: Token ids, int32, `tokens`.
        type_ids: Token type ids, int8, `tokens`; None if the model has none.
        offsets: Start of each example in `ids`, and the total: int64, `examples + 1`.
        labels: int64 (classification) or float32 (regression), `examples`.
        references: What a prediction is compared with if labels are not sufficient, one entry per example.
        cut: 1 for texts that were cut, int8, `examples`; None if unknown.
        RAGGED: Names of arrays with several values per example, and their offsets.
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    references: Sequence[Any] | None = None
    cut: np.ndarray | None = None

    RAGGED: ClassVar[dict[str, str]] = {"ids": "offsets", "type_ids": "offsets"}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def examples(self) -> int:
        """Number of examples; of spans, the number of questions, each of which has several rows."""
        return len(self)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, int64, `examples`."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Self:
        """Select examples.

        Args:
            indices: Indices in ascending order.

        Returns:
            A copy with these examples, or this split if they are all.
        """
        return self if len(indices) == len(self) else self._rows(indices)

    def _rows(self, indices: np.ndarray) -> Self:
        """A copy with these rows."""
        taken: dict[str, Any] = {}
        for name in set(self.RAGGED.values()):
            taken[name] = np.concatenate([[0], np.cumsum(np.diff(getattr(self, name))[indices])])
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name in self.RAGGED and values is not None:
                old, new = getattr(self, self.RAGGED[field.name]), taken[self.RAGGED[field.name]]
                taken[field.name] = values[np.repeat(old[indices] - new[:-1], np.diff(new)) + np.arange(new[-1])]
            elif isinstance(values, np.ndarray) and field.name not in taken:
                taken[field.name] = values[indices]
        if self.references is not None:
            taken["references"] = [self.references[i] for i in indices]
        return replace(self, **taken)

    @property
    def weights(self) -> np.ndarray:
        """Weight of each example in the mean loss of a batch, `examples`."""
        return np.ones(len(self))

    @property
    def strata(self) -> np.ndarray:
        """Strata of stratified samples: the labels, `examples`."""
        return self.labels


@dataclass(frozen=True)
class TaskData:
    """A task with its tokenized splits.

    Attributes:
        task: The task.
        train: The training split.
        validation: The evaluated splits by name: the task's validation splits, or `tune`, a part held out of train.
        digest: Digest of the content. Equal digests mean equal training examples, also if one evaluates on `tune` and
            the other on the validation splits.
        pad_id: Padding token.
        tokenizer: The tokenizer, if predictions are text.
        length: Number of tokens at which texts are cut.
    """

    task: Task
    train: Split
    validation: dict[str, Split]
    digest: str
    pad_id: int
    tokenizer: Any = None
    length: int = 0

    @property
    def shortened(self) -> str | None:
        """A sentence about the number of texts that were cut; None if there are none or the number is unknown."""
        splits = {"train": self.train, **self.validation}
        counts = [f"{split.cut.sum():,} of {len(split):,} ({name})" for name, split in splits.items()
                if split.cut is not None and split.cut.any()]  # fmt: skip
        if not counts:
            return None
        return (
            f"Texts are cut at {self.length} tokens; longer are {', '.join(counts)}. --max-length N sets another "
            "length, up to the model's maximum."
        )
