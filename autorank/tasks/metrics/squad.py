"""Exact match and F1 of answers, as in SQuAD's evaluation script for v2.0.

They also hold for v1.1, except for answers that consist only of punctuation and articles, which the script of v1.1 does
not remove (3 of its 10,570 validation questions have such an answer besides others). Scores range from 0 to 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes, Scores

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def compute(
    predicted: Sequence[str], answers: Sequence[Sequence[str]], null_margins: np.ndarray | None = None,
    score: str = "f1",
) -> Scores:  # fmt: skip
    """Compute f1 and exact_match: the best over the answers of a question, averaged over the questions.

    With `null_margins`, also compute both for questions with and without an answer, and best_f1 and best_exact_match,
    which use the threshold of the margin that is best for these questions (as the script does).

    Args:
        predicted: The best span of each question; an empty text means no answer.
        answers: The answers of each question; if there are none, predicting no answer is correct.
        null_margins: Score of no answer minus the score of the best span, `questions`; above 0, no answer is
            predicted.
        score: The metric whose outcomes are returned, f1 or exact_match.

    Returns:
        The metrics by name.
    """
    references = [[words for words in map(tokens, texts) if words] or [[]] for texts in answers]
    predictions = list(map(tokens, predicted))
    scores = {
        "f1": np.array(
            [max(f1(words, answer) for answer in texts) for words, texts in zip(predictions, references, strict=True)]
        ),
        "exact_match": np.array([float(words in texts) for words, texts in zip(predictions, references, strict=True)]),
    }
    if null_margins is None:
        return Scores({name: float(values.mean()) for name, values in scores.items()}, _outcomes(scores[score]))
    answered = np.array([bool(texts) for texts in answers])
    null_is_right = np.array([texts == [[]] for texts in references])
    metrics, best = {}, {}
    finals = {name: np.where(null_margins > 0, null_is_right, spans) for name, spans in scores.items()}
    for name, final in finals.items():
        metrics[name] = float(final.mean())
        for part, chosen in (("has_answer", answered), ("no_answer", ~answered)):
            if chosen.any():
                metrics[f"{name}_{part}"] = float(final[chosen].mean())
        best[f"best_{name}"] = _best(scores[name], np.array(list(map(bool, predicted))), answered, null_margins)
    return Scores(metrics | best, _outcomes(finals[score]))


def _outcomes(values: np.ndarray) -> Outcomes:
    """The score of each question."""
    return Outcomes("mean", values[:, None], np.empty((len(values), 0), np.int8), (len(values),))


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words, without punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def f1(predicted: Sequence[str], answer: Sequence[str]) -> float:
    """Compute the harmonic mean of precision and recall of words.

    Args:
        predicted: Words of the prediction.
        answer: Words of the answer.

    Returns:
        From 0 to 1; without words in one of them, 1 if both have none.
    """
    if not predicted or not answer:
        return float(len(predicted) == len(answer))
    same = sum((Counter(predicted) & Counter(answer)).values())
    return 2 * same / (len(predicted) + len(answer))


def _best(spans: np.ndarray, answered_any: np.ndarray, answered: np.ndarray, null_margins: np.ndarray) -> float:
    """The highest mean score over all thresholds of the null margin. All arguments: `questions`.

    Above the threshold, no answer is predicted. It starts below all margins, where exactly the questions without an
    answer are right, and passes one question at a time.
    """
    gain = np.where(answered, spans, -answered_any.astype(float))[np.argsort(null_margins, kind="stable")]
    right = (~answered).sum() + np.concatenate([[0.0], np.cumsum(gain)])
    return float(right.max() / len(spans))
