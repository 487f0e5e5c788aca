"""What a task is (`Task`) and what training reads of it (`TaskData`, `Split`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

CORRELATIONS = ("pearson_spearman", "pearson", "spearman")  # metrics of regression; their mean first


@dataclass(frozen=True)
class Task:
    """A task's definition: where its columns are, what is predicted, how it is scored.

    The defaults for training are those of microsoft/LoRA's RoBERTa-base scripts, which LoRA-drop also
    follows, unless `source` says otherwise.
    """

    name: str
    kind: Literal["classification", "regression"]
    text: tuple[str, ...]  # one or two text columns
    label: str
    label_names: tuple[str, ...]  # empty for regression
    metrics: tuple[str, ...]  # the first is the score; see tasks/metrics.py
    validation: tuple[str, ...] = ("validation",)  # MNLI has two, scored together and apart
    hub: tuple[str, str] | None = None  # (repository, configuration)
    model: str = "FacebookAI/roberta-base"
    epochs: int = 10
    batch_size: int = 16
    max_length: int = 512
    source: str = ""

    @property
    def outputs(self) -> int:
        """Width of the model's head: classes, or 1 for regression."""
        return len(self.label_names) if self.kind == "classification" else 1


@dataclass(frozen=True)
class Split:
    """Tokenised examples, end to end in flat arrays (memory-mapped where they come from the cache).

    ids: int32, `tokens`; type_ids: int8, `tokens`, or None where the model has none; offsets: int64,
    `examples + 1`; labels: int64 (classification) or float32 (regression), `examples`.
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, `examples`."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Split:
        """The examples at these rising indices: a copy, or the split itself if that is all of it."""
        if len(indices) == len(self):
            return self
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.repeat(self.offsets[indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
        type_ids = self.type_ids[tokens] if self.type_ids is not None else None
        return Split(self.ids[tokens], type_ids, offsets, self.labels[indices])


@dataclass(frozen=True)
class TaskData:
    """A task with its tokenised splits.

    `validation` is what is evaluated: the task's validation splits, or `tune`, a part held out of the training set.
    `digest` names the content: equal digests, equal training examples, even where one evaluates on `tune` and the other
    on the validation splits. `pad_id` is the token that fills up a batch.
    """

    task: Task
    train: Split
    validation: dict[str, Split]
    digest: str
    pad_id: int
