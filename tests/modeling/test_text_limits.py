"""Text lengths and tokens that models accept, read from saved models and tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as t

from autorank.errors import AutorankError
from autorank.modeling import heads
from autorank.modeling.text_limits import text_limits
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks import tokenization
from autorank.training.run import TrainingRun
from tests import families, tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")

TINY_CONFIG = families.TOKENS | families.SIZES


def save_model(folder: Path, config: t.PreTrainedConfig, tokenizer_limit: int | None) -> str:
    """A model of this config, and a tokenizer whose maximum length is `tokenizer_limit`."""
    t.AutoModel.from_config(config).save_pretrained(folder)
    tiny_models.tokenizer(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings.pop("model_max_length")
    file.write_text(json.dumps(settings | ({"model_max_length": tokenizer_limit} if tokenizer_limit else {})))
    return str(folder)


def task(folder: Path, texts: list[str]) -> TaskSpec:
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TaskSpec(name="data", data=folder, text=("text",), label="label")


def train(model: str, data: TaskSpec, batch_size: int = 2) -> TrainingRun:
    spec = TrainSpec(
        task=data, model=model, method="lora", settings={"targets": "all-linear"},
        training=TrainingSpec(steps=2, batch_size=batch_size),
    )  # fmt: skip
    run = TrainingRun(spec)
    assert next(run).step == 2
    return run


@pytest.mark.parametrize(
    ("config", "tokenizer_limit", "length"),
    [
        (t.RobertaConfig(**TINY_CONFIG | {"pad_token_id": 1, "max_position_embeddings": 40}), None, 38),
        (t.RobertaConfig(**TINY_CONFIG | {"pad_token_id": 1, "max_position_embeddings": 40}), 512, 38),
        (t.MPNetConfig(**TINY_CONFIG | {"pad_token_id": 1, "max_position_embeddings": 40}), None, 38),
        (t.BertConfig(**TINY_CONFIG, max_position_embeddings=40), 512, 40),
        (t.BertConfig(**TINY_CONFIG, max_position_embeddings=40), 30, 30),
        (t.LlamaConfig(**families.DECODER, max_position_embeddings=40), None, 40),  # the trained positions
        (families.config("t5"), None, 90),
    ],
)
def test_texts_are_cut_at_the_length_that_the_model_accepts(
    config: t.PreTrainedConfig, tokenizer_limit: int | None, length: int, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", config, tokenizer_limit)
    data = task(tmp_path, ["w1 " * 88, "w2 w3 " * 44] * 4)
    assert train(model, data)._data.train.lengths.max() == length


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_empty_texts_are_one_end_token_in_decoders(family: str, tmp_path: Path) -> None:
    model = families.model(family, tmp_path / "model")
    tokenizer = t.AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = None  # decoders add no special tokens
    tokenizer.eos_token = "w3"
    tokenizer.save_pretrained(model)
    end = tokenizer.eos_token_id
    data = task(tmp_path, ["", "w1 w2", "", "w4"])
    split = tokenization.load(data, model).train
    assert split.lengths.tolist() == [1, 2, 1, 1]
    assert split.ids[[0, 3]].tolist() == [end, end]
    train(model, data, batch_size=1)  # every other batch is a single empty text


def test_a_token_outside_the_embedding_table_is_refused(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", t.BertConfig(**TINY_CONFIG | {"vocab_size": 50}), 512)
    with pytest.raises(AutorankError, match=r"no embedding for token 63 \('w59'\).*50 entries.*embeddings\(64\)"):
        train(model, task(tmp_path, ["w1", "w59"]))
    train(model, task(tmp_path, ["w1", "w40"] * 2))  # unused tokens do no harm


def test_a_decoder_has_one_position_left_for_padding(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", families.config("bart"), None)  # 70 positions
    assert text_limits(model, 0, heads.TEXT, 500).length == 69
    assert text_limits(model, 2, heads.SEQUENCE, 500).length == 70
