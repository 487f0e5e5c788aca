"""Questions whose answer is a span of a context: what is minimised, and how the best span is found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.tasks.data.batches import eval_batches
from autorank.tasks.data.spans import Windows
from autorank.tasks.definition import Split, TaskData
from autorank.tasks.metrics import squad
from autorank.training.objectives.base import EVAL_BATCH

if TYPE_CHECKING:
    from autorank.training.optimization_loop import Phase

LONGEST_ANSWER = 30  # tokens, as in BERT's SQuAD script


class Spans:
    """Cross-entropy of the first and of the last token, over all tokens of a batch's width, as in transformers."""

    def __init__(self, data: TaskData) -> None:
        self.task = data.task

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """start_logits, end_logits: batch x seq; labels: batch x 2."""
        logits = (outputs.start_logits, outputs.end_logits)
        return sum((F.cross_entropy(logits[i].float(), labels[:, i]) for i in (0, 1)), torch.zeros(())) / 2

    def evaluate(self, phase: Phase, splits: Mapping[str, Split]) -> dict[str, float]:
        """As `squad_metrics.compute`; NaN where logits are not finite, as in a run that diverged."""
        [split] = splits.values()
        assert isinstance(split, Windows) and split.references is not None
        found = predict(phase, split)
        if found is None:
            return dict.fromkeys(self.task.metrics, math.nan)
        predicted, doubt = found
        answers = [one.answers for one in split.references]
        return squad.compute(predicted, answers, doubt if self.task.unanswerable else None)


def predict(phase: Phase, split: Windows) -> tuple[list[str], np.ndarray] | None:
    """Each question's best span, over all of its windows, and the doubt in it; none where logits are not finite.

    The doubt is the score of no answer, the lowest of the windows', less that of the best span. A score is the sum of
    the logits of first and last token.
    """
    windows = len(split)
    score, null, first, last = np.empty(windows), np.empty(windows), np.zeros(windows, int), np.zeros(windows, int)
    for rows, outputs in phase.outputs(split, eval_batches(split.lengths, EVAL_BATCH)):
        null[rows], score[rows], first[rows], last[rows] = _read(split, rows, outputs)
        del outputs  # see `Room.each`
    if not np.isfinite(null).all():
        return None
    assert split.references is not None
    order = np.lexsort((-score, split.owner))
    chosen = order[np.unique(split.owner[order], return_index=True)[1]]  # a window a question
    begins = split.starts[split.offsets[chosen] + first[chosen]]
    ends = split.ends[split.offsets[chosen] + last[chosen]]
    predicted = [
        one.context[begin:end] if found > -math.inf else ""
        for one, begin, end, found in zip(split.references, begins, ends, score[chosen], strict=True)
    ]
    lowest = np.full(len(predicted), math.inf)
    np.minimum.at(lowest, split.owner, null)
    return predicted, lowest - score[chosen]


def _read(split: Windows, rows: np.ndarray, outputs: Any) -> list[Tensor]:
    """Score of no answer, NaN where logits are not finite, and what `best_spans` finds: batch each, on the CPU."""
    start, end = outputs.start_logits.float(), outputs.end_logits.float()
    place = torch.from_numpy(split.null[rows]).to(start.device)[:, None]
    context = torch.from_numpy(split.context(rows, start.shape[1])).to(start.device)
    none = (start.gather(1, place) + end.gather(1, place))[:, 0]
    # the largest logits, whatever tokens they are of, are finite only if all are
    sound = (start.abs().amax(1) + end.abs().amax(1)).isfinite()
    found = none.masked_fill(~sound, math.nan), *best_spans(start, end, context)
    return [values.cpu() for values in found]


def best_spans(start: Tensor, end: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Score, first and last token of each window's best span of at most `LONGEST_ANSWER` tokens of the context.

    Of all spans, where n-best lists have those of the highest logits only. Without a context the score is -inf.

    Args:
        start, end: logits, batch x seq.
        context: whether a token is the context's, batch x seq.

    Returns:
        batch, each.
    """
    start, end = (logits.masked_fill(~context, -math.inf) for logits in (start, end))
    ahead = F.pad(end, (0, LONGEST_ANSWER - 1), value=-math.inf)[:, None]
    reached, last = F.max_pool1d(ahead, LONGEST_ANSWER, stride=1, return_indices=True)  # the best end of each start
    score, first = (start + reached[:, 0]).max(dim=1)
    return score, first, last[:, 0].gather(1, first[:, None])[:, 0]
