"""Metrics of classification and regression, computed with torchmetrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autorank.tasks.definition import Task
from autorank.tasks.metrics.outcomes import Outcomes, Scores
from autorank.tasks.metrics.resampling import FORMULAS

if TYPE_CHECKING:
    import torch

    Metric = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor | float]


def compute(task: Task, logits: np.ndarray, labels: np.ndarray, splits: Mapping[str, int] | None = None) -> Scores:
    """Compute the metrics of a task.

    A correlation that is undefined because all predictions are equal is 0.0, as in GLUE scripts. If logits are not
    finite (a diverged run), all metrics are NaN.

    Args:
        task: The task.
        logits: Model outputs, `examples x outputs`; one output for regression.
        labels: Label of each example, `examples`.
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
    """Predicted and true classes or numbers; None if logits are not finite, or the metric is the user's own."""
    if not np.isfinite(logits).all():
        return None
    formula, predicted, actual = task.metrics[0], _predicted(task, logits), labels
    if task.own_metric is not None:
        return None
    if formula.startswith(f"{RECALL}:"):
        formula, predicted, actual = _recall_of(task, formula, predicted, actual)
    return Outcomes(OF_CLASSES.get(formula, formula), predicted[:, None], actual[:, None], splits)


def _predicted(task: Task, logits: np.ndarray) -> np.ndarray:
    """Predicted classes or numbers, `examples`."""
    return logits.argmax(axis=1) if task.label_names else logits.reshape(-1)


def _scores(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    import torch

    if not np.isfinite(logits).all():
        return dict.fromkeys(task.metrics, math.nan)
    dtype = torch.int64 if task.label_names else torch.float64
    preds, target = torch.tensor(_predicted(task, logits), dtype=dtype), torch.tensor(labels, dtype=dtype)
    scores = {}
    if task.own_metric is not None:
        scores = task.own_metric.scores(_values(task, preds.tolist()), _values(task, target.tolist()))
    for name in task.metrics:
        if name.startswith(f"{RECALL}:"):
            scores[name] = _by_formula(*_recall_of(task, name, preds.numpy(), target.numpy()))
        elif name not in scores:
            scores[name] = _plain(METRICS[name](preds, target, task.outputs))
    return {name: scores[name] for name in task.metrics}


def _values(task: Task, labels: Sequence[Any]) -> list[Any]:
    """Labels as the user's own metric sees them: names of classes, or numbers."""
    return [task.label_names[label] for label in labels] if task.label_names else list(labels)


def _recall_of(task: Task, name: str, preds: np.ndarray, target: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """The formula of `recall:CLASS`, and whether each example is predicted to have the class, and has it."""
    label = task.label_names.index(name.removeprefix(f"{RECALL}:"))
    return RECALL, preds == label, target == label


def _by_formula(formula: str, preds: np.ndarray, target: np.ndarray) -> float:
    """A score as it is computed for resampled examples, each example once."""
    weights: Any = np.ones((1, len(target)), np.float32)
    return round(float(FORMULAS[formula](preds[None, :, None], target[:, None], weights)[0, 0]), 7)


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


def _macro_f1(preds: torch.Tensor, target: torch.Tensor, classes: int) -> float:
    """Mean F1 of the classes that are predicted or present."""
    return _by_formula(OF_CLASSES["macro_f1"], preds.numpy(), target.numpy())


def _balanced_accuracy(preds: torch.Tensor, target: torch.Tensor, classes: int) -> float:
    """Mean recall of the classes that are present."""
    return _by_formula(OF_CLASSES["balanced_accuracy"], preds.numpy(), target.numpy())


RECALL = "recall"  # recall:CLASS, the share of a class's examples that are predicted to have it
OF_CLASSES = {"macro_f1": "macro_f1_of_classes", "balanced_accuracy": "balanced_accuracy"}  # -> formula
CLASS_METRICS = ("accuracy", "f1", "matthews", *OF_CLASSES, RECALL)
METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "pearson_spearman": _pearson_spearman,
}
