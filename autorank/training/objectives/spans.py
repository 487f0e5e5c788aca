"""Extractive question answering: the loss of an answer's first and last token, and the search for the best span."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.tasks.data.batches import eval_batches
from autorank.tasks.data.windows import Windows
from autorank.tasks.metrics import squad
from autorank.tasks.metrics.outcomes import Scores
from autorank.tasks.splits.tokenized import Split
from autorank.training.objectives.base import EVAL_BATCH, Objective, Predictor

LONGEST_ANSWER = 30  # tokens, as in BERT's SQuAD script


class SpanObjective(Objective):
    """Cross-entropy of the first and of the last token, over all tokens of a batch's width, as in transformers."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean of the cross-entropies of the first and of the last token.

        Args:
            outputs: What the model returned; start_logits, end_logits: `batch x seq`.
            labels: First and last token, `batch x 2`.

        Returns:
            A scalar in float32.
        """
        logits = (outputs.start_logits, outputs.end_logits)
        return sum((F.cross_entropy(logits[i].float(), labels[:, i]) for i in (0, 1)), torch.zeros(())) / 2

    def trim(self, outputs: Any, width: int) -> Any:
        """Cut the logits, since the loss is a softmax over all tokens of the width.

        Args:
            outputs: What the model returned for the batch.
            width: Tokens of the longest example.

        Returns:
            The outputs in the form of the model's.
        """
        return type(outputs)(**{name: value[:, :width] for name, value in outputs.items()})

    def evaluate(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """Predict an answer to every question and score the answers.

        Args:
            predictor: The model.
            splits: The split to evaluate, a `Windows`, by name; one only.

        Returns:
            The metrics as `metrics.squad.compute` computes them; all NaN if a logit is not finite (a diverged run).
        """
        [split] = splits.values()
        assert isinstance(split, Windows) and split.references is not None
        predictions = predict(predictor, split)
        if predictions is None:
            return Scores(dict.fromkeys(self.task.metrics, math.nan))
        texts, null_margins = predictions
        answers = [reference.answers for reference in split.references]
        own_metric = self.task.own_metric
        scores = squad.compute(
            texts, answers, null_margins if self.task.unanswerable else None,
            "f1" if own_metric else self.task.metrics[0],
        )  # fmt: skip
        if own_metric is None:
            return scores
        if self.task.unanswerable:
            texts = ["" if margin > 0 else text for text, margin in zip(texts, null_margins, strict=True)]
        first = own_metric.scores_of_texts(texts, answers)
        return Scores(first | {name: value for name, value in scores.items() if name not in first})


def predict(predictor: Predictor, split: Windows) -> tuple[list[str], np.ndarray] | None:
    """Find each question's best span over all of its windows.

    A span's score is the sum of the logits of its first and last token.

    Args:
        predictor: The model.
        split: The windows.

    Returns:
        Each question's best span, and its null margin: the score of no answer (the lowest of the windows') minus the
        score of the best span, `questions`. None if a logit is not finite.
    """
    windows = len(split)
    score, null, first, last = np.empty(windows), np.empty(windows), np.zeros(windows, int), np.zeros(windows, int)
    batches = eval_batches(split.lengths, EVAL_BATCH)
    for rows, values in predictor.read(split, batches, partial(_read, split)):
        null[rows], score[rows], first[rows], last[rows] = values
    if not np.isfinite(null).all():
        return None
    assert split.references is not None
    order = np.lexsort((-score, split.owner))
    best = order[np.unique(split.owner[order], return_index=True)[1]]  # the best window of each question
    starts = split.starts[split.offsets[best] + first[best]]
    ends = split.ends[split.offsets[best] + last[best]]
    texts = [
        reference.context[start:end] if best_score > -math.inf else ""
        for reference, start, end, best_score in zip(split.references, starts, ends, score[best], strict=True)
    ]
    lowest_null = np.full(len(texts), math.inf)
    np.minimum.at(lowest_null, split.owner, null)
    return texts, lowest_null - score[best]


def _read(split: Windows, rows: np.ndarray, outputs: Any) -> list[Tensor]:
    """The score of no answer, NaN where logits are not finite, and the values of `best_spans`: `batch` each, on CPU."""
    start, end = outputs.start_logits.float(), outputs.end_logits.float()
    null_token = torch.from_numpy(split.null[rows]).to(start.device)[:, None]
    context = torch.from_numpy(split.context(rows, start.shape[1])).to(start.device)
    null_score = (start.gather(1, null_token) + end.gather(1, null_token))[:, 0]
    # the largest absolute logit is finite only if all logits are
    finite = (start.abs().amax(1) + end.abs().amax(1)).isfinite()
    columns = null_score.masked_fill(~finite, math.nan), *best_spans(start, end, context)
    return [values.cpu() for values in columns]


def best_spans(start: Tensor, end: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find each window's best span of at most `LONGEST_ANSWER` tokens of the context.

    All such spans are compared, not only those of the highest logits (n-best lists). Source: ours.

    Args:
        start: Logits of the first token, `batch x seq`.
        end: Logits of the last token, `batch x seq`.
        context: Whether a token belongs to the context, `batch x seq`.

    Returns:
        Score, first and last token, each `batch`. The score is -inf for a window without context.
    """
    start, end = (logits.masked_fill(~context, -math.inf) for logits in (start, end))
    padded_end = F.pad(end, (0, LONGEST_ANSWER - 1), value=-math.inf)[:, None]
    best_end, last = F.max_pool1d(padded_end, LONGEST_ANSWER, stride=1, return_indices=True)  # one end per start
    score, first = (start + best_end[:, 0]).max(dim=1)
    return score, first, last[:, 0].gather(1, first[:, None])[:, 0]
