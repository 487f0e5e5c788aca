"""Scores of texts, against the reference packages and against values computed by hand."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from autorank.tasks.metrics.scripts import script_of, words
from autorank.tasks.metrics.text import compute, final_answer

TEXTS = ["The cat sat on the mat.", "a dog runs in the park today", ""]
REFERENCES = [["The cat is on the mat.", "There sat a cat."], ["a dog was running in the park"], ["something else"]]


def test_thoughts_are_not_scored() -> None:
    texts = ["<think>\n\n</think>\n\nyes", "no", "<think>\nunfinished"]
    references = [["yes"], ["<think>well</think> no"], ["yes"]]
    assert compute(["exact_match"], texts, references) == {"exact_match": pytest.approx(2 / 3)}


def test_bleu_is_sacrebleus() -> None:
    """None is a missing reference; an empty one would count as the shortest."""
    first = ["The cat is on the mat.", "a dog was running in the park", "something else"]
    streams = [first, ["There sat a cat.", None, None]]
    expected = sacrebleu.corpus_bleu(TEXTS, streams).score / 100
    assert 0 < expected < 1
    assert compute(["bleu"], TEXTS, REFERENCES)["bleu"] == pytest.approx(expected, abs=1e-12)


def test_bleu_by_hand() -> None:
    """5 tokens, the last of them wrong: precisions 4/5, 3/4, 2/3, 1/2, as long as the reference."""
    bleu = compute(["bleu"], ["the cat sat down here"], [["the cat sat down there"]])["bleu"]
    assert bleu == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    short = compute(["bleu"], ["the cat sat down"], [["the cat sat down there"]])["bleu"]
    assert short == pytest.approx(math.exp(1 - 5 / 4))  # all right, but too short


def test_rouge_is_rouge_scores_best_reference() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = compute(["rouge", "rouge1", "rouge2", "rougeL"], TEXTS, REFERENCES)
    for name in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(reference, text)[name].fmeasure for reference in references)
            for text, references in zip(TEXTS, REFERENCES, strict=True)
        ]
        assert scores[name] == pytest.approx(sum(best) / 3, abs=1e-12)
    assert scores["rouge"] == pytest.approx((scores["rouge1"] + scores["rouge2"] + scores["rougeL"]) / 3)
    assert next(iter(scores)) == "rouge"


def test_rouge_by_hand() -> None:
    """Four words against three: three unigrams in common, one bigram (cat sat), a common subsequence of two words."""
    scores = compute(["rouge1", "rouge2", "rougeL"], ["there the cat sat"], [["cat sat there"]])
    assert scores["rouge1"] == pytest.approx(2 * 3 / (4 + 3))
    assert scores["rouge2"] == pytest.approx(2 * 1 / (3 + 2))
    assert scores["rougeL"] == pytest.approx(2 * 2 / (4 + 3))


@pytest.mark.parametrize(
    ("text", "reference", "equal"),
    [
        ("a  b\n", "a b", True), ("A b", "a b", True), ("Straße.", "STRASSE", True), ("ﬁn", "fin", True),
        ("１２", "12", True), ("好。", "好", True), ("cafe\u0301", "caf\u00e9", True), ("...", "a", False),
        ("ab", "a b", False), ("a, b", "a b", False), ("-1", "1", False), ("a!", "a", False),
    ],
)  # fmt: skip
def test_exact_match_is_normalized(text: str, reference: str, equal: bool) -> None:
    assert compute(["exact_match"], [text], [["x", reference]]) == {"exact_match": float(equal)}


ALL = ("bleu", "rouge", "rouge1", "rouge2", "rougeL", "exact_match")


@pytest.mark.parametrize(
    ("right", "wrong", "tokenizer"),
    [
        ("今天天气很好", "明月几时有？", "zh"),
        ("今日は天気がいいですね", "はじめましてよろしく", "char"),
        ("วันนี้อากาศดีมาก", "ขอบคุณครับผม", "char"),
        ("ថ្ងៃនេះអាកាសធាតុល្អ", "អរគុណច្រើន", "char"),
        ("Сегодня очень хорошая погода", "Большое вам спасибо, друзья", "13a"),
        ("आज मौसम बहुत अच्छा है", "धन्यवाद मेरे प्यारे दोस्त जी", "13a"),
        ("오늘 날씨가 아주 좋습니다", "정말 감사합니다 여러분 모두", "13a"),
        ("الطقس جميل جدا اليوم هنا", "شكرا جزيلا لكم يا أصدقاء", "13a"),
    ],
)
def test_scores_of_any_script(right: str, wrong: str, tokenizer: str) -> None:
    if tokenizer == "char" and script_of([right]).bleu == "ja-mecab":
        tokenizer = "ja-mecab"
    assert script_of([right]).bleu == tokenizer
    assert list(compute(ALL, [right], [[right]]).values()) == pytest.approx([1.0] * len(ALL))
    scores = compute(ALL, [wrong], [[right]])
    assert scores["rougeL"] < 0.5 and scores["bleu"] < 0.5 and scores["exact_match"] == 0
    expected = sacrebleu.corpus_bleu([wrong], [[right]], tokenize=tokenizer).score / 100
    assert scores["bleu"] == pytest.approx(expected)


def test_rouge_of_chinese_by_hand() -> None:
    """Six characters against five: four in common, three of them in order."""
    scores = compute(["rouge1", "rougeL"], ["今天天气很好"], [["很好的天气"]])
    assert scores["rouge1"] == pytest.approx(2 * 4 / (6 + 5)) and scores["rougeL"] == pytest.approx(2 * 2 / (6 + 5))


def test_words_of_any_script() -> None:
    assert words("Don't touch 中文ABC, für 3.5 €!") == ["don", "t", "touch", "中", "文", "abc", "für", "3", "5"]
    assert words("अच्छा है") == ["अच्छा", "है"] and words("ที่นี่") == ["ที่", "นี่"]
    assert words("می‌خواهم") == ["می" + "خواهم"] and words("") == [] == words("?!")


def test_descriptions_of_scripts() -> None:
    assert script_of(["The café is open.", *["It serves good food to all guests."] * 9]).description == ""
    assert script_of([]).description == "" == script_of(["12"]).description
    assert "sacrebleu's tokenizer zh, ROUGE counts each character" in script_of(["今天 is good"]).description
    assert "words of any letters" in script_of(["Größe und Stärke"]).description
    assert script_of(["A long English text with a single word: 好" + " more words" * 20]).bleu == "13a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 7+5=12\n#### 12", "12"), ("#### 1,234", "1234"), ("#### $1,234.50.", "1234.50"), ("####-3 apples", "-3"),
        ("#### $ 70", "70"), ("#### -$5", "-5"), ("#### 5\n#### 6", "5"), ("12", None), ("#### many", None), ("", None),
    ],
)  # fmt: skip
def test_answers(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def test_exact_answer() -> None:
    texts = ["thus #### 1,000", "1000", "#### 7", "#### none"]
    assert compute(["exact_answer"], texts, [["x\n#### 1000"]] * 4) == {"exact_answer": 0.25}
