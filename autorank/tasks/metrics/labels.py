"""Scores of a validation pass, with torchmetrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from autorank.tasks.definition import Task

if TYPE_CHECKING:
    import torch

    Metric = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor | float]


def compute(
    task: Task, logits: np.ndarray, labels: np.ndarray, splits: Mapping[str, int] | None = None
) -> dict[str, float]:
    """The task's metrics; the first is the score.

    A correlation that is undefined because all predictions are equal counts as 0.0, as GLUE scripts report
    it. Logits that are not finite (a diverged run) make every metric NaN, so that they cannot pass for a
    score.

    Args:
        logits: `examples x outputs`; one output for regression.
        labels: `examples`.
        splits: sizes of the validation splits, which lie one after the other. With more than one, each metric
            is also given for each split apart: accuracy, accuracy_matched, accuracy_mismatched for MNLI.
    """
    scores = _scores(task, logits, labels)
    if splits is not None and len(splits) > 1:
        ends = np.cumsum(list(splits.values()))
        for name, end in zip(splits, ends, strict=True):
            part = slice(end - splits[name], end)
            apart = _scores(task, logits[part], labels[part])
            short = name.removeprefix("validation_")
            scores |= {f"{metric}_{short}": value for metric, value in apart.items()}
    return scores


def _scores(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import torch

    if not np.isfinite(logits).all():
        return dict.fromkeys(task.metrics, math.nan)
    classify = task.kind == "classification"
    predicted = logits.argmax(axis=1) if classify else logits.reshape(-1)
    dtype = torch.int64 if classify else torch.float64
    preds, target = torch.tensor(predicted, dtype=dtype), torch.tensor(labels, dtype=dtype)
    return {name: _plain(METRICS[name](preds, target, task.outputs)) for name in task.metrics}


def _plain(score: torch.Tensor | float) -> float:
    """As a float; what torchmetrics computes in single precision without digits that mean nothing."""
    import torch

    single = torch.is_tensor(score) and score.dtype == torch.float32
    return round(float(score), 7) if single else float(score)


def _accuracy(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor:
    from torchmetrics.functional.classification import multiclass_accuracy

    return multiclass_accuracy(preds, target, classes, average="micro")


def _f1(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor:
    """F1 of class 1; two classes only."""
    from torchmetrics.functional.classification import binary_f1_score

    return binary_f1_score(preds, target)


def _matthews(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    return 0.0 if _constant(preds, target) else multiclass_matthews_corrcoef(preds, target, classes)


def _pearson(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    from torchmetrics.functional.regression import pearson_corrcoef

    if _constant(preds, target):
        return 0.0
    with warnings.catch_warnings(action="ignore"):  # that the predictions hardly vary: it is NaN then
        return pearson_corrcoef(preds, target).nan_to_num(0.0)


def _spearman(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    from torchmetrics.functional.regression import spearman_corrcoef

    return 0.0 if _constant(preds, target) else spearman_corrcoef(preds, target)


def _constant(preds: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a correlation is undefined (where torchmetrics gives NaN, 0, 1 or -1 according to the case)."""
    return bool((preds == preds[0]).all() or (target == target[0]).all())


def _pearson_spearman(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    """The mean of the two, GLUE's score for STS-B."""
    return (_pearson(preds, target, classes) + _spearman(preds, target, classes)) / 2


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "pearson_spearman": _pearson_spearman,
}
