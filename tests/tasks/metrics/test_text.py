"""Scores of texts: against the reference packages called directly, and cases worked by hand."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from autorank.tasks.metrics.text import compute, final_answer

TEXTS = ["The cat sat on the mat.", "a dog runs in the park today", ""]
REFERENCES = [["The cat is on the mat.", "There sat a cat."], ["a dog was running in the park"], ["something else"]]


def test_thoughts_are_not_scored() -> None:
    texts = ["<think>\n\n</think>\n\nyes", "no", "<think>\nunfinished"]
    references = [["yes"], ["<think>well</think> no"], ["yes"]]
    assert compute(["exact_match"], texts, references) == {"exact_match": pytest.approx(2 / 3)}


def test_bleu_is_sacrebleus() -> None:
    """None is a reference that is not there; an empty one would count, as the shortest."""
    first = ["The cat is on the mat.", "a dog was running in the park", "something else"]
    streams = [first, ["There sat a cat.", None, None]]
    expected = sacrebleu.corpus_bleu(TEXTS, streams).score / 100
    assert 0 < expected < 1
    assert compute(["bleu"], TEXTS, REFERENCES)["bleu"] == pytest.approx(expected, abs=1e-12)


def test_bleu_by_hand() -> None:
    """5 tokens, the last of them wrong: precisions 4/5, 3/4, 2/3, 1/2, as long as the reference."""
    found = compute(["bleu"], ["the cat sat down here"], [["the cat sat down there"]])["bleu"]
    assert found == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    short = compute(["bleu"], ["the cat sat down"], [["the cat sat down there"]])["bleu"]
    assert short == pytest.approx(math.exp(1 - 5 / 4))  # all right, but too short


def test_rouge_is_rouge_scores_best_reference() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    found = compute(["rouge", "rouge1", "rouge2", "rougeL"], TEXTS, REFERENCES)
    for kind in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(known, text)[kind].fmeasure for known in ours)
            for text, ours in zip(TEXTS, REFERENCES, strict=True)
        ]
        assert found[kind] == pytest.approx(sum(best) / 3, abs=1e-12)
    assert found["rouge"] == pytest.approx((found["rouge1"] + found["rouge2"] + found["rougeL"]) / 3)
    assert next(iter(found)) == "rouge"


def test_rouge_by_hand() -> None:
    """Four words against three: three unigrams in common, one bigram (cat sat), a common subsequence of two words."""
    found = compute(["rouge1", "rouge2", "rougeL"], ["there the cat sat"], [["cat sat there"]])
    assert found["rouge1"] == pytest.approx(2 * 3 / (4 + 3))
    assert found["rouge2"] == pytest.approx(2 * 1 / (3 + 2))
    assert found["rougeL"] == pytest.approx(2 * 2 / (4 + 3))


def test_exact_match_cares_not_for_white_space() -> None:
    assert compute(["exact_match"], ["a  b\n", "A b", "c"], [["x", "a b"], ["a b"], ["c"]]) == {"exact_match": 2 / 3}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so 7+5=12\n#### 12", "12"), ("#### 1,234", "1234"), ("#### $1,234.50.", "1234.50"), ("####-3 apples", "-3"),
        ("#### $ 70", "70"), ("#### -$5", "-5"), ("#### 5\n#### 6", "5"), ("12", None), ("#### many", None), ("", None),
    ],
)  # fmt: skip
def test_answers(text: str, found: str | None) -> None:
    assert final_answer(text) == found


def test_exact_answer() -> None:
    texts = ["thus #### 1,000", "1000", "#### 7", "#### none"]
    assert compute(["exact_answer"], texts, [["x\n#### 1000"]] * 4) == {"exact_answer": 0.25}
