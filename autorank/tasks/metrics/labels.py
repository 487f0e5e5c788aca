"""Metrics of classification and regression, computed with torchmetrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from autorank.tasks.definition import Task
from autorank.tasks.metrics.outcomes import Outcomes, Scores

if TYPE_CHECKING:
    import torch

    Metric = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor | float]


def compute(task: Task, logits: np.ndarray, labels: np.ndarray, splits: Mapping[str, int] | None = None) -> Scores:
    """Compute the metrics of a task.

    A correlation that is undefined because all predictions are equal is 0.0, as in GLUE scripts. If logits are not
    finite (a diverged run), all metrics are NaN.

    Args:
        task: The task.
        logits: `examples x outputs`; one output for regression.
        labels: `examples`.
        splits: Sizes of the validation splits, which are concatenated in this order. With more than one, metrics are
            also computed for each split: accuracy, accuracy_matched, accuracy_mismatched for MNLI.

    Returns:
        The metrics by name; the first is the score.
    """
    splits = splits or {"": len(labels)}
    scores = _scores(task, logits, labels)
    if len(splits) > 1:
        ends = np.cumsum(list(splits.values()))
        for name, end in zip(splits, ends, strict=True):
            part = slice(end - splits[name], end)
            split_scores = _scores(task, logits[part], labels[part])
            suffix = name.removeprefix("validation_")
            scores |= {f"{metric}_{suffix}": value for metric, value in split_scores.items()}
    return Scores(scores, _outcomes(task, logits, labels, tuple(splits.values())))


def _outcomes(task: Task, logits: np.ndarray, labels: np.ndarray, splits: tuple[int, ...]) -> Outcomes | None:
    """Predicted and true classes or numbers; None if logits are not finite."""
    if not np.isfinite(logits).all():
        return None
    return Outcomes(task.metrics[0], _predicted(task, logits)[:, None], labels[:, None], splits)


def _predicted(task: Task, logits: np.ndarray) -> np.ndarray:
    """Predicted classes or numbers, `examples`."""
    return logits.argmax(axis=1) if task.label_names else logits.reshape(-1)


def _scores(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import torch

    if not np.isfinite(logits).all():
        return dict.fromkeys(task.metrics, math.nan)
    dtype = torch.int64 if task.label_names else torch.float64
    preds, target = torch.tensor(_predicted(task, logits), dtype=dtype), torch.tensor(labels, dtype=dtype)
    return {name: _plain(METRICS[name](preds, target, task.outputs)) for name in task.metrics}


def _plain(score: torch.Tensor | float) -> float:
    """Convert to float; single-precision results are rounded to their significant digits."""
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
    with warnings.catch_warnings(action="ignore"):  # about predictions that hardly vary; the result is NaN
        return pearson_corrcoef(preds, target).nan_to_num(0.0)


def _spearman(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    from torchmetrics.functional.regression import spearman_corrcoef

    return 0.0 if _constant(preds, target) else spearman_corrcoef(preds, target)


def _constant(preds: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a correlation is undefined; torchmetrics then returns NaN, 0, 1 or -1."""
    return bool((preds == preds[0]).all() or (target == target[0]).all())


def _pearson_spearman(preds: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor | float:
    """The mean of both correlations, the score of STS-B in GLUE."""
    return (_pearson(preds, target, classes) + _spearman(preds, target, classes)) / 2


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "pearson_spearman": _pearson_spearman,
}
