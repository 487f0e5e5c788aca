"""What a task is (`Task`) and what training reads of it (`TaskData`, `Split`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

Kind = Literal["classification", "regression", "span", "generation"]
CORRELATIONS = ("pearson_spearman", "pearson", "spearman")  # metrics of regression; their mean first


@dataclass(frozen=True)
class Task:
    """A task's definition: where its columns are, what is predicted, how it is scored.

    The defaults for training are those of microsoft/LoRA's RoBERTa-base scripts, which LoRA-drop also
    follows, unless `source` says otherwise.
    """

    name: str
    kind: Kind
    text: tuple[str, ...]  # one or two text columns; for spans the question and the context
    label: str  # the column to be predicted
    label_names: tuple[str, ...]  # of classes; empty for all other kinds
    metrics: tuple[str, ...]  # the first is the score; see tasks/{metrics,squad_metrics,text_metrics}.py
    validation: tuple[str, ...] = ("validation",)  # MNLI has two, scored together and apart; (): held out of train
    hub: tuple[str, str] | None = None  # (repository, configuration)
    model: str = "FacebookAI/roberta-base"
    epochs: int = 10
    batch_size: int = 16
    max_length: int = 512
    eval_examples: int | None = None  # of each split, where none are asked for and the run is not final; None: all
    template: str = "{}"  # of prompts; see tasks/generation.py
    unanswerable: bool = False  # for spans: whether there are questions without an answer
    source: str = ""

    @property
    def outputs(self) -> int:
        """Width of the model's head: classes, 1 for regression, 2 for spans (start and end); 0: text, no head."""
        return {"classification": len(self.label_names), "regression": 1, "span": 2, "generation": 0}[self.kind]


@dataclass(frozen=True)
class Split:
    """Tokenised examples, end to end in flat arrays (memory-mapped where they come from the cache).

    Spans and generation have more to an example; see tasks/spans.py and tasks/pairs.py.

    Attributes:
        ids: int32, `tokens`.
        type_ids: int8, `tokens`; None where the model has none.
        offsets: int64, `examples + 1`.
        labels: int64 (classification) or float32 (regression), `examples`.
        references: what a prediction is compared with where labels do not say it all, an entry an example.
        cut: int8, `examples`: 1 where the text was too long and lost a part; None where that is not known.
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray
    references: Sequence[Any] | None = None
    cut: np.ndarray | None = None

    RAGGED: ClassVar[dict[str, str]] = {"ids": "offsets", "type_ids": "offsets"}  # a row of many values -> its offsets

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def examples(self) -> int:
        """What `take` counts: a row each, but for spans, where a question has several."""
        return len(self)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, `examples`."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Self:
        """The examples at these rising indices: a copy, or the split itself if that is all of it."""
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
        """How much each example counts in a batch's mean loss, `examples`."""
        return np.ones(len(self))

    @property
    def strata(self) -> np.ndarray:
        """Whose shares a sample keeps: labels, `examples`."""
        return self.labels


@dataclass(frozen=True)
class TaskData:
    """A task with its tokenised splits.

    `validation` is what is evaluated: the task's validation splits, or `tune`, a part held out of the training set.
    `digest` names the content: equal digests, equal training examples, even where one evaluates on `tune` and the other
    on the validation splits. `pad_id` is the token that fills up a batch. `tokenizer` is there where predictions are
    text. `length` is the number of tokens at which texts are cut.
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
        """How many texts were cut, for people; None: none was, or that is not known."""
        splits = {"train": self.train, **self.validation}
        told = [f"{split.cut.sum():,} of {len(split):,} ({name})" for name, split in splits.items()
                if split.cut is not None and split.cut.any()]  # fmt: skip
        if not told:
            return None
        return (
            f"Texts are cut at {self.length} tokens, and longer than that are {', '.join(told)}. --max-length N sets "
            "another length, up to what the model takes."
        )
