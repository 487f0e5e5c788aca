"""The demo task: labels agree with the sentences' meaning, the corpus never changes, the packaged base model loads."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autorank.tasks.named.demo import DEMO, grammar, pairs

SPLITS = ("train", "validation")


def rows(split: str) -> list[tuple[str, str, int]]:
    columns = pairs(split)
    return list(zip(columns["sentence1"], columns["sentence2"], columns["label"], strict=True))


# --- The labels, checked by a parser that knows the words and the syntax but nothing of how sentences are made

TRAITS = {
    word: (pair, pole) for pair, poles in enumerate(grammar.ADJECTIVES) for pole in (0, 1) for word in poles[pole]
}
NOUNS = {
    form: noun
    for noun, synonyms in enumerate(grammar.NOUNS)
    for word in synonyms
    for form in (word, {"thief": "thieves", "child": "children"}.get(word, f"{word}s"))
}
BASES = {word: (pair, pole) for pair, poles in enumerate(grammar.VERBS) for pole in (0, 1) for word in poles[pole]}
PASTS = {word + "ed" if word[-1] != "e" else word + "d": act for word, act in BASES.items()}
CONVERSES = {
    tuple(phrase.split()): (pair, pole)
    for pair, poles in enumerate(grammar.RELATIONS)
    for pole in (0, 1)
    for phrase in poles[pole]
}


class Reader:
    """A parser that consumes a sentence from its beginning."""

    def __init__(self, sentence: str) -> None:
        self.words = sentence.replace(",", " ,").split()

    def take(self, *phrase: str) -> bool:
        if tuple(self.words[: len(phrase)]) != phrase:
            return False
        del self.words[: len(phrase)]
        return True

    def time(self) -> str | None:
        return next((time for time in ("at night", "at noon", "in spring") if self.take(*time.split())), None)

    def party(self) -> tuple[object, ...]:
        number = self.words.pop(0)
        trait = TRAITS[self.words.pop(0)] if self.words[0] in TRAITS else None
        noun = self.words.pop(0)
        assert (noun in dict.fromkeys(word for words in grammar.NOUNS for word in words)) == (number == "one")
        if self.take("who"):
            assert trait is None
            assert self.words.pop(0) == ("was" if number == "one" else "were")
            denied = self.take("not")
            pair, pole = TRAITS[self.words.pop(0)]
            trait = (pair, 1 - pole if denied else pole)
        return number, NOUNS[noun], trait

    def statement(self) -> tuple[object, ...]:
        """(act, agent, patient, whether true, time): equal for sentences of the same meaning."""
        time = self.time()
        if time:
            assert self.take(",")
        true = not self.take("it", "was", "false", "that")
        subject = self.party()
        if self.take("did", "not"):
            true, act, swapped = not true, ("act", *BASES[self.words.pop(0)]), False
        elif self.words[0] in PASTS:
            act, swapped = ("act", *PASTS[self.words.pop(0)]), False
        else:
            assert self.words.pop(0) == ("was" if subject[0] == "one" else "were")
            if self.take("not"):
                true = not true
            relation = next((phrase for phrase in CONVERSES if self.take(*phrase)), None)
            if relation:
                pair, pole = CONVERSES[relation]
                act, swapped = ("relation", pair), pole == 1
            else:
                act, swapped = ("act", *PASTS[self.words.pop(0)]), True
                assert self.take("by")
        complement = self.party()
        time = time or self.time()
        assert not self.words, self.words
        return (act, complement, subject, true, time) if swapped else (act, subject, complement, true, time)


def meaning(sentence: str) -> tuple[object, ...]:
    return Reader(sentence).statement()


def test_the_parser_reads_what_a_person_reads() -> None:
    assert meaning("two old kings did not praise one thief") == meaning(
        "it was false that one robber was commended by two kings who were not young"
    )
    assert meaning("one king was ahead of two cooks at noon") == meaning("at noon, two chefs were behind one king")
    assert meaning("one king praised two cooks") != meaning("one king was praised by two cooks")
    assert meaning("one king was not behind two cooks") != meaning("one king was ahead of two cooks")


@pytest.mark.parametrize("split", SPLITS)
def test_label_is_1_exactly_where_both_sentences_mean_the_same(split: str) -> None:
    wrong = [row for row in rows(split) if (meaning(row[0]) == meaning(row[1])) != bool(row[2])]
    assert not wrong, wrong[:3]


def test_no_word_has_two_meanings() -> None:
    tables = (grammar.ADJECTIVES, grammar.VERBS, grammar.RELATIONS)
    words = [word for table in tables for poles in table for pole in poles for word in pole]
    words += [word for synonyms in grammar.NOUNS for word in synonyms]
    assert len(words) == len(set(words))


# --- The corpus


def test_sizes_and_balance() -> None:
    for split, size in (("train", 4000), ("validation", 500)):
        assert len(rows(split)) == size
        assert sum(pairs(split)["label"]) == size // 2


def test_no_pair_comes_twice_in_either_order() -> None:
    sentence_pairs = [frozenset(row[:2]) for split in SPLITS for row in rows(split)]
    assert len(set(sentence_pairs)) == len(sentence_pairs)
    assert all(len(pair) == 2 for pair in sentence_pairs)


def test_corpus_has_a_fixed_digest_in_every_process() -> None:
    """Its digest is fixed: scores of different versions are comparable only over one corpus."""
    code = (
        "import hashlib, json; from autorank.tasks.named.demo import pairs; "
        "print(hashlib.sha256(json.dumps([pairs('train'), pairs('validation')]).encode()).hexdigest())"
    )
    digest = hashlib.sha256(json.dumps([pairs(split) for split in SPLITS]).encode()).hexdigest()
    subprocess_digest = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert digest == subprocess_digest.strip() == DIGEST


DIGEST = "f69407cf6d9e7666a833a1172c7ffde03881d32d50088ebb4385347c89e0eeac"


def test_a_linear_model_of_words_cannot_solve_the_task() -> None:
    """The best linear prediction from the words that the sentences do not share is far from a solution."""
    vocabulary = {
        word: index
        for index, word in enumerate(
            sorted({word for first, second, _ in rows("train") for word in (first + " " + second).split()})
        )
    }

    def features(split: str) -> tuple[np.ndarray, np.ndarray]:
        counts = np.zeros((2, len(rows(split)), len(vocabulary) + 1))
        for index, row in enumerate(rows(split)):
            for side in (0, 1):
                for word in row[side].split():
                    counts[side, index, vocabulary.get(word, len(vocabulary))] += 1
        differ = np.abs(counts[0] - counts[1])
        return np.hstack([differ, np.ones((len(differ), 1))]), np.array([2 * row[2] - 1 for row in rows(split)])

    x, y = features("train")
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    x, y = features("validation")
    assert np.mean((x @ weights > 0) == (y > 0)) < 0.7


@pytest.mark.parametrize("edit", [*grammar.SWAPS, *grammar.CHANGES])
def test_every_edit_changes_the_meaning(edit: grammar.Edit) -> None:
    rng = random.Random(1)
    edited = [(before, edit(before, rng)) for before in (grammar.draw(rng) for _ in range(100))]
    assert sum(after is not None for _, after in edited) > 30
    for before, after in edited:
        if after is not None:
            assert meaning(grammar.words(before, rng, rng.choice)) != meaning(grammar.words(after, rng, rng.choice))


# --- The base model


def test_model_is_small() -> None:
    files = [path for path in Path(DEMO.model).iterdir() if path.is_file()]
    assert {path.name for path in files} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_tokenizer_knows_every_word_and_reads_pairs() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO.model)
    for split in SPLITS:
        columns = pairs(split)
        ids = tokenizer(columns["sentence1"], columns["sentence2"])["input_ids"]
        assert not any(tokenizer.unk_token_id in row for row in ids)
        assert max(map(len, ids)) <= DEMO.max_length
    assert tokenizer.decode(tokenizer("one king helped two cooks", "at noon, one king")["input_ids"]) == (
        "<s> one king helped two cooks </s> at noon , one king </s>"
    )


def test_model_loads_in_single_precision_without_a_head() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        DEMO.model, num_labels=DEMO.outputs, output_loading_info=True
    )
    assert info["missing_keys"] and all(key.startswith("classifier.") for key in info["missing_keys"])
    assert not info["unexpected_keys"]
    assert model.dtype == torch.float32
    layers = model.roberta.encoder.layer
    assert len(layers) == 12
    assert all(isinstance(layer.attention.self.query, torch.nn.Linear) for layer in layers)
    assert model(input_ids=torch.tensor([[0, 7, 2, 8, 2]])).logits.shape == (1, 2)
