"""Metrics of multi-label classification, with torchmetrics. A class is predicted where its logit is positive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes, Scores

METRICS = ("micro_f1", "macro_f1", "subset_accuracy")


def compute(names: Sequence[str], logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Compute metrics.

    Micro F1 counts all pairs of example and class together; macro F1 is the mean of the classes' F1, 0 for a class that
    is neither predicted nor present. Subset accuracy is the share of examples whose classes are all correct. If logits
    are not finite (a diverged run), all metrics are NaN.

    Args:
        names: Which metrics, of `METRICS`.
        logits: Model outputs, `examples x classes`.
        labels: 1 where an example has a class, else 0, `examples x classes`.

    Returns:
        The metrics by name, in the order of `names`.
    """
    import torch
    from torchmetrics.functional.classification import multilabel_exact_match, multilabel_f1_score

    if not np.isfinite(logits).all():
        return Scores(dict.fromkeys(names, math.nan))
    predicted, target = torch.tensor(logits > 0).int(), torch.tensor(labels).int()
    classes = labels.shape[1]
    scores = {
        "micro_f1": lambda: multilabel_f1_score(predicted, target, classes, average="micro"),
        "macro_f1": lambda: multilabel_f1_score(predicted, target, classes, average="macro"),
        "subset_accuracy": lambda: multilabel_exact_match(predicted, target, classes),
    }
    outcomes = Outcomes(names[0], logits > 0, labels > 0, (len(labels),))
    return Scores({name: round(float(scores[name]()), 7) for name in names}, outcomes)
