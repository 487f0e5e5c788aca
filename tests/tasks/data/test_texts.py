"""Tokens of texts, including empty texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load
from autorank.tasks.data.texts import tokenize
from autorank.tasks.splits.examples import Examples
from tests import tiny_language_models, tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")


def test_an_example_without_tokens_gets_the_end_token(tmp_path: Path) -> None:
    tokenizer = tiny_language_models.tokenizer(tmp_path)  # without special tokens around a text
    split = tokenize(Examples((["w1", "", "w2 w3"],), np.array([0, 1, 0])), tokenizer, 8)
    assert split.lengths.tolist() == [1, 1, 2]
    assert split.ids[1] == tokenizer.eos_token_id
    pairs = tokenize(Examples((["", ""], ["", "w1"]), np.array([0, 1])), tokenizer, 8)
    assert pairs.lengths.tolist() == [1, 1] and pairs.ids.tolist() == [tokenizer.eos_token_id, *split.ids[:1]]


def test_special_tokens_are_enough(tmp_path: Path) -> None:
    tokenizer = tiny_language_models.tokenizer(tmp_path, "[BOS] $A [EOS]")
    split = tokenize(Examples((["", "w1"],), np.array([0, 1])), tokenizer, 8)
    assert split.lengths.tolist() == [2, 3]


def test_a_length_without_room_for_the_texts(tmp_path: Path) -> None:
    model = tiny_models.model("bert", tmp_path / "bert")
    for columns, smallest in ((("left", "right"), 5), (("left",), 3)):
        spec = TaskSpec(
            name="x", data=tiny_models.pairs_file(tmp_path / "x.jsonl", 40), text=columns, label="label",
            max_length=smallest - 1,
        )  # fmt: skip
        with pytest.raises(AutorankError, match=rf"--max-length {smallest - 1} is too .*--max-length {smallest} or"):
            load(spec, model)
        data = load(spec.model_copy(update={"max_length": smallest}), model)
        assert data.train.lengths.max() == smallest and "truncated" in data.warnings[0]
