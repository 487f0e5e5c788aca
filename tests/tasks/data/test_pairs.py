"""Prompts and completions as tokens and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load
from autorank.tasks.data.batches import collate, first_tokens, token_mask
from autorank.tasks.data.pairs import EncodedPairs, Pairs
from autorank.tasks.kinds.generation import GENERATION
from autorank.tasks.named.generation import own_task
from autorank.tasks.prompts.chat_encoding import ChatEncoding
from autorank.tasks.prompts.prompting import Prompting
from autorank.tasks.splits.examples import Examples
from autorank.tasks.tokenization import load_tokenizer
from tests import tiny_language_models, tiny_models
from tests.tiny_language_models import IGNORED, library_batch

pytestmark = pytest.mark.usefixtures("own_cache")

BOS, EOS, NL = 2, 3, 4


def ids(*words: str) -> list[int]:
    return [tiny_language_models.TOKENS.index(word) for word in words]


def split(
    folder: Path, template: str, start: int | None, rows: list[tuple[str, str]], length: int = 64, chat: bool = False
) -> Pairs:
    tokenizer = tiny_language_models.tokenizer(folder, template, chat)
    encoding = ChatEncoding(tokenizer, length) if chat else Prompting(tokenizer, length, start)
    prompts, completions = [list(column) for column in zip(*rows, strict=True)]
    labels = np.array([prompts.index(prompt) for prompt in prompts])
    return encoding.split(Examples((prompts, completions), labels, completions))


ROWS = [("w1 w2", "green"), ("w3", "red fox"), ("w1 w2", "a blue bird sings")]


def test_a_decoders_batch(tmp_path: Path) -> None:
    pairs = split(tmp_path, "[BOS] $A", None, ROWS)
    batch = library_batch(collate(pairs, np.array([0, 1]), pad_id=0))
    first, second = [BOS, *ids("w1", "w2"), NL, *ids("green"), EOS], [BOS, *ids("w3"), NL, *ids("red", "fox"), EOS]
    assert batch["input_ids"].tolist() == [first, second]
    assert batch["labels"].tolist() == [[IGNORED] * 4 + first[4:], [IGNORED] * 3 + second[3:]]
    batch = library_batch(collate(pairs, np.array([1, 2]), pad_id=0))
    assert batch["input_ids"].shape == (2, 9) and batch["input_ids"][0, 6:].eq(0).all()
    assert batch["attention_mask"].sum(dim=1).tolist() == [6, 9] == pairs.lengths[1:].tolist()
    assert batch["labels"].ne(IGNORED).sum(dim=1).tolist() == pairs.weights[1:].tolist() == [3, 5]
    assert pairs.strata.tolist() == [0, 0, 0]


def test_prompts_for_generation_are_padded_on_the_left(tmp_path: Path) -> None:
    pairs = split(tmp_path, "[BOS] $A", None, ROWS)
    batch = pairs.prompts(np.array([0, 1]), pad_id=0)
    assert batch["input_ids"].tolist() == [[BOS, *ids("w1", "w2"), NL], [0, BOS, *ids("w3"), NL]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize(("family", "template"), [("bart", "[BOS] $A [EOS]"), ("t5", "$A [EOS]")])
def test_an_encoder_decoders_batch(family: str, template: str, tmp_path: Path) -> None:
    import transformers

    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tiny_language_models.model(family, tmp_path / "model")
    )
    pairs = split(tmp_path / "tokens", template, model.config.decoder_start_token_id, ROWS)
    batch = library_batch(collate(pairs, np.array([0, 1, 2]), pad_id=0))
    start = [BOS] if family == "bart" else []
    assert batch["input_ids"][1].tolist()[: 2 + len(start)] == [*start, *ids("w3"), EOS]
    labels = [label for label in batch["labels"][1].tolist() if label != IGNORED]
    assert labels == [*start, *ids("red", "fox"), EOS]
    predicted = batch["labels"].ne(IGNORED)
    library = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    assert torch.equal(batch["decoder_input_ids"][predicted], library[predicted])
    assert pairs.weights.tolist() == batch["labels"].ne(IGNORED).sum(dim=1).tolist()
    assert torch.equal(batch["decoder_attention_mask"], batch["labels"].ne(IGNORED).long())
    assert set(pairs.prompts(np.array([0]), 0)) == {"input_ids", "attention_mask"}


def test_token_mask_has_the_width_of_the_layers_values(tmp_path: Path) -> None:
    pairs = split(tmp_path, "$A [EOS]", 0, [("w1 w2", "red fox"), ("w1", "green")])
    batch = collate(pairs, np.array([0, 1]), pad_id=0)
    assert batch["input_ids"].shape[1] == 3 and batch["decoder_input_ids"].shape[1] == 4
    assert token_mask(batch, (2, 3)).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert token_mask(batch, (2, 4)).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert token_mask(batch, (2, 7)).tolist() == [[1] * 7] * 2
    assert token_mask(batch, (6,)).tolist() == [1, 1, 1, 1, 1, 0]  # without the batch's shape
    assert token_mask(batch, (5,)).tolist() == [1] * 5
    assert first_tokens(batch["attention_mask"]).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_grouped_has_each_prompt_once(tmp_path: Path) -> None:
    pairs = split(tmp_path, "$A", None, ROWS)
    assert pairs.truncated is not None and pairs.truncated.tolist() == [0, 0, 0]
    grouped = pairs.grouped()
    assert len(grouped) == 2 and grouped.references == [["red fox"], ["green", "a blue bird sings"]]
    assert grouped.weights.tolist() == [3, 5]  # the longest of each
    part = pairs.take(np.array([2]))
    assert part.ids.tolist() == [*ids("w1", "w2"), NL]
    assert part.target_ids.tolist() == [*ids("a", "blue", "bird", "sings"), EOS]
    assert part.references == ["a blue bird sings"]


def test_long_prompts_and_completions_are_truncated(tmp_path: Path) -> None:
    """Completions have at most five of ten tokens and prompts the rest; prompts lose their beginning."""
    long = " ".join(f"w{i}" for i in range(12))
    pairs = split(tmp_path, "[BOS] $A", None, [(long, "green"), ("w1", "red fox red fox red fox")], length=10)
    assert pairs.ids[:5].tolist() == [BOS, *ids("w9", "w10", "w11"), NL]
    assert pairs.target_ids.tolist() == [*ids("green"), EOS, *ids("red", "fox", "red", "fox", "red")]
    assert pairs.lengths.max() <= 10
    assert pairs.truncated is not None and pairs.truncated.tolist() == [1, 1]
    encoder_pairs = split(tmp_path, "$A [EOS]", 0, [(long, long)], length=10)
    assert encoder_pairs.ids.tolist() == [*ids(*(f"w{i}" for i in range(3, 12))), EOS]
    assert encoder_pairs.target_ids.tolist() == [0, *ids(*(f"w{i}" for i in range(10)))]


def test_chat_templates(tmp_path: Path) -> None:
    pairs = split(tmp_path, "[BOS] $A", None, [("w1 w2", "green")], chat=True)
    assert pairs.ids.tolist() == [BOS, *ids("k0", "w1", "w2", "k1"), NL]
    assert pairs.target_ids.tolist() == [*ids("green"), EOS]
    long = " ".join(f"w{i}" for i in range(12))
    pairs = split(tmp_path, "[BOS] $A", None, [(long, "green")], chat=True, length=10)
    assert pairs.ids.tolist() == [BOS, *ids("k0", "w8", "w9", "w10", "w11", "k1"), NL]  # 8 and 2 of the completion
    with pytest.raises(AutorankError, match="chat template alone"):
        split(tmp_path, "[BOS] $A", None, [(long, "green")], chat=True, length=5)


def test_loading(tmp_path: Path) -> None:
    data = tiny_language_models.write(
        tmp_path / "x.jsonl", [{"q": f"w{i % 20} w1", "a": f"w{i // 20}"} for i in range(40)]
    )
    spec = TaskSpec(name="x", data=data, prompt="q", completion="a")
    model = tiny_language_models.model("llama", tmp_path / "llama", chat=True)
    loaded = load(spec, model)
    (validation,) = loaded.validation.values()
    assert isinstance(validation, Pairs)
    assert (len(loaded.train), len(validation)) == (36, 4)  # 2 of 20 prompts, with both completions
    assert [len(references) for references in validation.grouped().references or ()] == [2, 2]
    assert isinstance(loaded.train, Pairs) and not isinstance(loaded.train, EncodedPairs)
    assert loaded.train.ids[:2].tolist() == [BOS, *ids("k0")]  # the tokenizer has a template
    without_template = load(spec.model_copy(update={"chat": False}), model)
    assert without_template.train.ids[:2].tolist() == [BOS, *ids("w0")] and without_template.digest != loaded.digest
    reloaded = load(spec, model)
    assert np.array_equal(reloaded.train.target_ids, loaded.train.target_ids) and reloaded.digest == loaded.digest
    assert reloaded.train.references == loaded.train.references
    encoder_data = load(spec, tiny_language_models.model("t5", tmp_path / "t5"))
    assert isinstance(encoder_data.train, EncodedPairs) and encoder_data.train.target_ids[0] == 0
    tuned = load(spec.model_copy(update={"tune_split": 0.2}), model)
    assert len(set(tuned.validation["tune"].labels)) == 4  # 4 of 18 prompts, with both completions
    assert (len(tuned.validation["tune"]), len(tuned.train)) == (8, 28)
    assert not set(tuned.validation["tune"].labels) & set(tuned.train.labels)


def test_models_with_the_same_vocabulary_use_their_own_end_token(tmp_path: Path) -> None:
    """As a base model and the chat model trained from it: tokenizer.json is the same, the end token is not."""
    from transformers import AutoTokenizer

    spec = TaskSpec(
        name="x", data=tiny_language_models.data(tmp_path / "data"), prompt="asked", completion="told", chat=False
    )
    base, chat = (tiny_language_models.model("llama", tmp_path / name) for name in ("base", "chat"))
    for model, end in ((base, "[EOS]"), (chat, "[PAD]")):
        AutoTokenizer.from_pretrained(model, eos_token=end).save_pretrained(model)
    base_data, chat_data = load(spec, base), load(spec, chat)
    assert (tmp_path / "base" / "tokenizer.json").read_text() == (tmp_path / "chat" / "tokenizer.json").read_text()
    ends = [data.train.target_ids[data.train.target_offsets[1] - 1] for data in (base_data, chat_data)]
    assert ends == [EOS, 0] and base_data.digest != chat_data.digest


def test_number_of_evaluated_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autorank.tasks import registry

    monkeypatch.setattr(registry, "FORWARD_EXAMPLES", 5)
    spec = TaskSpec(name="x", data=tiny_language_models.data(tmp_path / "data"), prompt="asked", completion="told")
    model = tiny_language_models.model("gpt2", tmp_path / "gpt2")
    counts = {
        name: len(load(spec.model_copy(update=values), model).validation["validation"])
        for name, values in {"search": {}, "asked": {"max_eval_examples": 7}, "final": {"final": True}}.items()
    }
    assert counts == {"search": 5, "asked": 7, "final": 24}
    assert load(spec, model).digest == load(spec.model_copy(update={"final": True}), model).digest


def test_models_that_cannot_generate(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    spec = TaskSpec(
        name="x", data=tiny_language_models.data(tmp_path / "data"), prompt="asked", completion="told", chat=True
    )
    model = tiny_language_models.model("llama", tmp_path / "llama")
    with pytest.raises(AutorankError, match="--chat needs a chat template"):
        load(spec, model)
    chat = TaskSpec(name="x", data="x.csv", messages="m")
    for family, problem in (("llama", "has none"), ("bart", "encoder-decoder, which has no turns")):
        folder = tiny_language_models.model(family, tmp_path / f"{family} again")
        with pytest.raises(AutorankError, match=f"--messages needs a chat template, but .*{problem}"):
            GENERATION.tokenization(own_task("x", ("m",), ""), chat, folder, load_tokenizer(folder))
    AutoTokenizer.from_pretrained(model, eos_token=None).save_pretrained(model)
    with pytest.raises(AutorankError, match="no end token"):
        load(spec, model)
    with pytest.raises(AutorankError, match=r"an encoder .*cannot generate text"):  # not the end token
        load(spec, tiny_models.model("bert", tmp_path / "bert"))


def test_texts_are_cut_at_the_positions_of_the_model(tmp_path: Path) -> None:
    """The tokenizer allows more tokens than the model has positions."""

    model = tiny_language_models.model("gpt2", tmp_path / "gpt2")
    tiny_models.update_config(tmp_path / "gpt2", n_positions=12)
    rows = [{"q": " ".join([f"w{i}"] * 20), "a": "green"} for i in range(20)]
    spec = TaskSpec(
        name="x", data=tiny_language_models.write(tmp_path / "x.jsonl", rows), prompt="q", completion="a", max_length=40
    )
    assert load(spec, model).train.lengths.tolist() == [12] * 18
