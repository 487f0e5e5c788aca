"""Tokens of texts, including empty texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autorank.tasks.data.texts import tokenize
from autorank.tasks.splits.examples import Examples
from tests import texts


def test_an_example_without_tokens_gets_the_end_token(tmp_path: Path) -> None:
    tokenizer = texts.tokenizer(tmp_path)  # without special tokens around a text
    split = tokenize(Examples((["w1", "", "w2 w3"],), np.array([0, 1, 0])), tokenizer, 8)
    assert split.lengths.tolist() == [1, 1, 2]
    assert split.ids[1] == tokenizer.eos_token_id
    pairs = tokenize(Examples((["", ""], ["", "w1"]), np.array([0, 1])), tokenizer, 8)
    assert pairs.lengths.tolist() == [1, 1] and pairs.ids.tolist() == [tokenizer.eos_token_id, *split.ids[:1]]


def test_special_tokens_are_enough(tmp_path: Path) -> None:
    tokenizer = texts.tokenizer(tmp_path, "[BOS] $A [EOS]")
    split = tokenize(Examples((["", "w1"],), np.array([0, 1])), tokenizer, 8)
    assert split.lengths.tolist() == [2, 3]
