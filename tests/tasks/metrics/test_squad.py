"""Answers' scores against torchmetrics and the rules of the evaluation script, applied one question at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from autorank.tasks.metrics import squad

WORDS = ["The", "cat", "a", "dog's", "1,000", "U.S.", "an", "Über", "re-run", "cat", "the", "sat."]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The U.S. Army", ["us", "army"]),
        ("a  1,000-year\told theme", ["1000year", "old", "theme"]),
        ("An. the!", []),
        ("Über–Łódź", ["über–łódź"]),  # only ASCII characters are punctuation
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert squad.tokens(text) == words


def random_answers(count: int, unanswerable: float) -> tuple[list[str], list[list[str]]]:
    """Predictions, and lists of answers that share words with them; a fraction of the questions has no answer."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))

    predicted = [text() + " sat" for _ in range(count)]  # not only articles: the script's best scores require a word
    answers = [
        [] if rng.random() < unanswerable else [text() + " cat" for _ in range(rng.randint(1, 3))] for _ in predicted
    ]
    return predicted, answers


def test_equal_to_torchmetrics() -> None:
    from torchmetrics.functional.text import squad as torchmetrics_squad

    predicted, answers = random_answers(300, unanswerable=0)
    scores = squad.compute(predicted, answers)
    expected = torchmetrics_squad(
        [{"prediction_text": text, "id": str(i)} for i, text in enumerate(predicted)],
        [
            {"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": str(i)}
            for i, texts in enumerate(answers)
        ],
    )
    assert set(scores) == set(expected) == {"f1", "exact_match"}
    for name, value in expected.items():
        assert 100 * scores[name] == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("score", ["f1", "exact_match"])
@pytest.mark.parametrize("margins", [None, np.linspace(-1, 1, 50)])
def test_outcomes_are_those_of_the_score(score: str, margins: np.ndarray | None) -> None:
    predicted, answers = random_answers(50, unanswerable=0.3)
    predicted[:10] = [texts[0] if texts else "" for texts in answers[:10]]
    scores = squad.compute(predicted, answers, margins, score)
    assert scores.outcomes is not None
    assert scores.outcomes.values.mean() == pytest.approx(scores[score]) and scores["f1"] > scores["exact_match"] > 0


def test_questions_without_an_answer() -> None:
    """The metrics at threshold 0; the best ones are the maxima over all thresholds."""
    predicted, answers = random_answers(200, unanswerable=0.5)
    null_margins = np.random.default_rng(0).normal(size=200) + [0.5 if not texts else -0.5 for texts in answers]
    metrics = squad.compute(predicted, answers, null_margins)

    def scores(threshold: float) -> dict[str, list[float]]:
        final = [
            "" if margin > threshold else prediction for prediction, margin in zip(predicted, null_margins, strict=True)
        ]
        scores_by_name: dict[str, list[float]] = {"f1": [], "exact_match": []}
        for prediction, texts in zip(final, answers, strict=True):
            if not texts:
                question_scores = {"f1": float(prediction == ""), "exact_match": float(prediction == "")}
            elif not prediction:
                question_scores = {"f1": 0.0, "exact_match": 0.0}
            else:
                question_scores = squad.compute([prediction], [texts])
            for name, values in scores_by_name.items():
                values.append(question_scores[name])
        return scores_by_name

    answered = np.array([bool(texts) for texts in answers])
    for name, values in scores(0.0).items():
        assert metrics[name] == pytest.approx(np.mean(values))
        assert metrics[f"{name}_has_answer"] == pytest.approx(np.array(values)[answered].mean())
        assert metrics[f"{name}_no_answer"] == pytest.approx(np.array(values)[~answered].mean())
        best = max(np.mean(scores(threshold)[name]) for threshold in [-np.inf, *null_margins])
        assert metrics[f"best_{name}"] == pytest.approx(best) and best > metrics[name]


def test_known_cases() -> None:
    def scores(predicted: str, answers: list[str], margin: float) -> tuple[float, float]:
        metrics = squad.compute([predicted], [answers], np.array([margin]))
        return metrics["f1"], metrics["exact_match"]

    assert scores("the cat", ["cat", "dog"], -1) == (1, 1)
    assert scores("black cat sat", ["cat"], -1) == (0.5, 0)
    assert scores("cat", ["cat"], 1) == (0, 0)  # taken to have no answer
    assert scores("cat", ["cat"], 0) == (1, 1)  # the threshold itself is not above it
    assert scores("cat", [], 1) == (1, 1) and scores("cat", [], -1) == (0, 0)
    assert scores("", [], -1) == (1, 1)
    assert scores("the", ["."], -1) == (1, 1)  # an answer without words is none
