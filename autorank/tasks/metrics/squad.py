"""Exact match and F1 of answers, by the rules of SQuAD's evaluation script for v2.0.

They hold for v1.1 too, but for answers of nothing but punctuation and articles, which v1.1's script does not leave out
(3 of its 10,570 validation questions have such an answer besides others). Scores are from 0 to 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def compute(
    predicted: Sequence[str], answers: Sequence[Sequence[str]], doubt: np.ndarray | None = None
) -> dict[str, float]:
    """f1 and exact_match, the best over a question's answers, as means over the questions.

    With `doubt` also those of the questions that have an answer and of those that have none, and best_f1 and
    best_exact_match: with the threshold of doubt that suits these questions best, as the script reports them.

    Args:
        predicted: a question's best span; empty: none.
        answers: a question's answers; none: that there is none is the right prediction.
        doubt: score of no answer less that of the best span: above 0, no answer is the prediction. `questions`.
    """
    known = [[words for words in map(tokens, one) if words] or [[]] for one in answers]
    said = list(map(tokens, predicted))
    scores = {
        "f1": np.array([max(f1(one, each) for each in right) for one, right in zip(said, known, strict=True)]),
        "exact_match": np.array([float(one in right) for one, right in zip(said, known, strict=True)]),
    }
    if doubt is None:
        return {name: float(each.mean()) for name, each in scores.items()}
    answered = np.array([bool(one) for one in answers])
    null_is_right = np.array([right == [[]] for right in known])
    found, best = {}, {}
    for name, spans in scores.items():
        final = np.where(doubt > 0, null_is_right, spans)
        found[name] = float(final.mean())
        for part, chosen in (("has_answer", answered), ("no_answer", ~answered)):
            if chosen.any():
                found[f"{name}_{part}"] = float(final[chosen].mean())
        best[f"best_{name}"] = _best(spans, np.array(list(map(bool, predicted))), answered, doubt)
    return found | best


def tokens(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def f1(predicted: Sequence[str], answer: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of words; of no words, whether both have none."""
    if not predicted or not answer:
        return float(len(predicted) == len(answer))
    same = sum((Counter(predicted) & Counter(answer)).values())
    return 2 * same / (len(predicted) + len(answer))


def _best(spans: np.ndarray, some: np.ndarray, answered: np.ndarray, doubt: np.ndarray) -> float:
    """The highest mean score that a threshold of doubt gives, no answer being predicted above it. All: questions.

    From a threshold below all doubts, where every question without an answer is right, spans are let in one by one.
    """
    gain = np.where(answered, spans, -some.astype(float))[np.argsort(doubt, kind="stable")]
    right = (~answered).sum() + np.concatenate([[0.0], np.cumsum(gain)])
    return float(right.max() / len(spans))
