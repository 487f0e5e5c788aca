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
        ("Über–Łódź", ["über–łódź"]),  # a dash that is not ASCII's is no punctuation
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert squad.tokens(text) == words


def drawn(count: int, none: float) -> tuple[list[str], list[list[str]]]:
    """Predictions, and answers that share words with them, of which a part has none."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 5)))

    predicted = [text() + " sat" for _ in range(count)]  # with a word that counts: the script's best scores want one
    answers = [[] if draw.random() < none else [text() + " cat" for _ in range(draw.randint(1, 3))] for _ in predicted]
    return predicted, answers


def test_equal_to_torchmetrics() -> None:
    from torchmetrics.functional.text import squad as torchmetrics_squad

    predicted, answers = drawn(300, none=0)
    found = squad.compute(predicted, answers)
    theirs = torchmetrics_squad(
        [{"prediction_text": one, "id": str(i)} for i, one in enumerate(predicted)],
        [{"answers": {"text": one, "answer_start": [0] * len(one)}, "id": str(i)} for i, one in enumerate(answers)],
    )
    assert set(found) == set(theirs) == {"f1", "exact_match"}
    for name, value in theirs.items():
        assert 100 * found[name] == pytest.approx(float(value), rel=1e-5)


def test_questions_without_an_answer() -> None:
    """Each figure from what is predicted above its threshold; the best one, from every threshold there is."""
    predicted, answers = drawn(200, none=0.5)
    doubt = np.random.default_rng(0).normal(size=200) + [0.5 if not one else -0.5 for one in answers]
    found = squad.compute(predicted, answers, doubt)

    def scores(threshold: float) -> dict[str, list[float]]:
        final = ["" if no > threshold else one for one, no in zip(predicted, doubt, strict=True)]
        each: dict[str, list[float]] = {"f1": [], "exact_match": []}
        for one, right in zip(final, answers, strict=True):
            if not right:
                both = {"f1": float(one == ""), "exact_match": float(one == "")}
            elif not one:
                both = {"f1": 0.0, "exact_match": 0.0}
            else:
                both = squad.compute([one], [right])
            for name, values in each.items():
                values.append(both[name])
        return each

    answered = np.array([bool(one) for one in answers])
    for name, values in scores(0.0).items():
        assert found[name] == pytest.approx(np.mean(values))
        assert found[f"{name}_has_answer"] == pytest.approx(np.array(values)[answered].mean())
        assert found[f"{name}_no_answer"] == pytest.approx(np.array(values)[~answered].mean())
        best = max(np.mean(scores(threshold)[name]) for threshold in [-np.inf, *doubt])
        assert found[f"best_{name}"] == pytest.approx(best) and best > found[name]


def test_known_cases() -> None:
    def both(predicted: str, answers: list[str], doubt: float) -> tuple[float, float]:
        found = squad.compute([predicted], [answers], np.array([doubt]))
        return found["f1"], found["exact_match"]

    assert both("the cat", ["cat", "dog"], -1) == (1, 1)
    assert both("black cat sat", ["cat"], -1) == (0.5, 0)
    assert both("cat", ["cat"], 1) == (0, 0)  # taken to have no answer
    assert both("cat", ["cat"], 0) == (1, 1)  # the threshold itself is not above it
    assert both("cat", [], 1) == (1, 1) and both("cat", [], -1) == (0, 0)
    assert both("", [], -1) == (1, 1)
    assert both("the", ["."], -1) == (1, 1)  # an answer without words is none
