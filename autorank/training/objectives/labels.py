"""Classification and regression, also with several labels for each example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.tasks.data.batches import eval_batches
from autorank.tasks.metrics import labels as label_metrics
from autorank.tasks.metrics import multi_label as multi_label_metrics
from autorank.tasks.metrics.outcomes import Scores
from autorank.tasks.splits.tokenized import Split
from autorank.training.objectives import eos_check
from autorank.training.objectives.base import EVAL_BATCH, Objective, Predictor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class ClassificationObjective(Objective):
    """Cross-entropy over the classes."""

    def check(self, config: PreTrainedConfig) -> None:
        """Check the tokens that models classify at (see `eos_check.check`).

        Raises:
            AutorankError: The model cannot classify these texts.
        """
        if config.model_type == "xlnet":
            raise AutorankError(
                "XLNet classifies at the last position, so it needs padding on the left, but batches are padded on the "
                "right. Use another model."
            )
        eos_check.check(config, {"train": self.data.train} | self.data.validation)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the cross-entropy.

        Args:
            outputs: What the model returned; logits: `batch x classes`.
            labels: Class numbers, `batch`.

        Returns:
            A scalar in float32.
        """
        return F.cross_entropy(outputs.logits.float(), labels)

    def evaluate(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """Compute the metrics; see `Objective.evaluate` and `scores`."""
        logits = [predictor.predict(split, eval_batches(split.lengths, EVAL_BATCH)) for split in splits.values()]
        labels = np.concatenate([split.labels for split in splits.values()])
        return self.scores(np.concatenate(logits), labels, {name: len(split) for name, split in splits.items()})

    def scores(self, logits: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int]) -> Scores:
        """Compute the metrics as `metrics.labels.compute` does.

        Args:
            logits: Logits of all splits, one after the other, `examples x outputs`.
            labels: Their labels, `examples` or `examples x classes`.
            sizes: Number of examples of each split by name.

        Returns:
            The metrics.
        """
        return label_metrics.compute(self.task, logits, labels, sizes)


class RegressionObjective(ClassificationObjective):
    """Mean squared error."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean squared error.

        Args:
            outputs: What the model returned; logits: `batch x 1`.
            labels: Targets, `batch`.

        Returns:
            A scalar in float32.
        """
        return F.mse_loss(outputs.logits.squeeze(-1).float(), labels)


class MultiLabelObjective(ClassificationObjective):
    """Binary cross-entropy of each class."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean binary cross-entropy.

        Args:
            outputs: What the model returned; logits: `batch x classes`.
            labels: 1 where an example has a class, else 0, `batch x classes`.

        Returns:
            A scalar in float32.
        """
        return F.binary_cross_entropy_with_logits(outputs.logits.float(), labels)

    @override
    def scores(self, logits: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int]) -> Scores:
        """Compute the metrics as `metrics.multi_label.compute` does; arguments as in the base class."""
        own_metric = self.task.own_metric
        names = [name for name in self.task.metrics if own_metric is None or name not in own_metric.names]
        scores = multi_label_metrics.compute(names, logits, labels)
        if own_metric is None:
            return scores
        if not np.isfinite(logits).all():
            return Scores(dict.fromkeys(self.task.metrics, math.nan))
        return Scores(own_metric.scores(self._named(logits > 0), self._named(labels > 0)) | scores)

    def _named(self, rows: np.ndarray) -> list[list[str]]:
        """The names of each example's classes."""
        return [[self.task.label_names[i] for i in np.flatnonzero(row)] for row in rows]
