"""Rank files round trip and are validated; a map shows every rank once, in the cell of its layer."""

import json
import re
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.modeling import base_model, rank_map, target_modules
from tests import tiny_models

BERT = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "intermediate.dense", "output.dense"]  # fmt: skip


def distinct_ranks(names: list[str]) -> dict[str, int]:
    """A different rank for every layer."""
    return {name: i for i, name in enumerate(names)}


def test_round_trip_in_order(tmp_path: Path) -> None:
    ranks = {"layer.1.value": 3, "layer.0.query": 0}
    rank_map.write(tmp_path / "new" / "ranks.json", ranks)
    assert list(rank_map.read(tmp_path / "new" / "ranks.json").items()) == list(ranks.items())
    assert json.loads((tmp_path / "new" / "ranks.json").read_text()) == ranks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no rank file"),
        ("rank: 4", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[4, 4]", r"must contain \{\"layer\": rank, ...\}, not \[4, 4\]"),
        ('{"a.0.q": 4, "a.1.q": -1}', "but 'a.1.q' has -1"),
        ('{"a.0.q": 2.5, "a.1.q": true, "a.2.q": "8"}', "'a.0.q' has 2.5, 'a.1.q' has true, 'a.2.q' has \"8\""),
        (json.dumps(dict.fromkeys("abcde")), "'c' has null and 2 more"),
    ],
)
def test_invalid_rank_files_are_refused_with_the_reason(
    content: str | bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "ranks.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AutorankError, match=message) as error:
        rank_map.read(path)
    assert str(path) in str(error.value) and "autorank ranks NAME --to ranks.json" in str(error.value)


def test_a_directory_is_not_a_rank_file(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match="no rank file"):
        rank_map.read(tmp_path)


def bert_layers(blocks: int, kinds: list[str] = BERT) -> list[str]:
    return [f"bert.encoder.layer.{i}.{kind}" for i in range(blocks) for kind in kinds]


def test_a_file_of_a_smaller_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    rank_map.write(path, dict.fromkeys(bert_layers(10, ["attention.self.query"]), 4))
    missing = "bert.encoder.layer.10.attention.self.query, bert.encoder.layer.11.attention.self.query"
    with pytest.raises(
        AutorankError, match=rf"{path} has no ranks .*\({missing}\). Use a file made with the same model"
    ):
        rank_map.read_for(path, bert_layers(12))


def test_last_blocks_of_encoder_and_decoder_are_distinguished(tmp_path: Path) -> None:
    def layers(encoder: int, decoder: int) -> list[str]:
        return [f"encoder.block.{i}.q" for i in range(encoder)] + [f"decoder.block.{i}.q" for i in range(decoder)]

    path = tmp_path / "ranks.json"
    rank_map.write(path, dict.fromkeys(layers(2, 4), 4))
    assert len(rank_map.read_for(path, layers(2, 4))) == 6
    with pytest.raises(AutorankError, match=r"\(encoder.block.2.q\)"):
        rank_map.read_for(path, layers(3, 4))


def test_layers_of_kinds_that_the_file_does_not_have_get_no_rank(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    ranks = {name: 2 * i for i, name in enumerate(bert_layers(3, ["attention.self.query"]))}  # the first one is 0
    del ranks["bert.encoder.layer.1.attention.self.query"]  # as EVA's layers without a rank
    rank_map.write(path, ranks)
    assert rank_map.read_for(path, bert_layers(3)) == {"bert.encoder.layer.2.attention.self.query": 4}
    rank_map.write(path, {**ranks, "bert.encoder.layer.3.attention.self.query": 0})
    assert rank_map.read_for(path, bert_layers(4)) == {"bert.encoder.layer.2.attention.self.query": 4}


def test_bert_is_layers_by_kinds() -> None:
    ranks = distinct_ranks([f"bert.encoder.layer.{i}.{kind}" for i in range(12) for kind in BERT])
    rows, columns, cells = rank_map.grid(ranks)
    assert rows == [str(i) for i in range(12)]
    # `output.dense` is also the end of `attention.output.dense`, which therefore shows more of its name
    assert columns == ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    assert cells == [[6 * i + j for j in range(6)] for i in range(12)]


def test_a_cell_without_a_layer_is_none_and_zero_is_zero() -> None:
    assert rank_map.grid({"h.0.q": 0, "h.0.v": 2, "h.2.q": 3}) == (["0", "2"], ["q", "v"], [[0, 2], [3, None]])


def test_stacks_have_separate_rows_and_common_columns() -> None:
    ranks = {
        "encoder.block.0.layer.0.SelfAttention.q": 1,
        "encoder.block.1.layer.0.SelfAttention.q": 2,
        "decoder.block.0.layer.0.SelfAttention.q": 3,
        "decoder.block.0.layer.1.EncDecAttention.q": 4,
    }
    rows, columns, cells = rank_map.grid(ranks)
    assert rows == ["encoder.block.0", "encoder.block.1", "decoder.block.0"]
    assert columns == ["SelfAttention.q", "EncDecAttention.q"]
    assert cells == [[1, None], [2, None], [3, 4]]


def test_layers_with_two_numbers_have_separate_cells() -> None:
    ranks = {f"layers.{i}.experts.{e}.w": 10 * i + e for i in range(2) for e in range(3)}
    assert rank_map.grid(ranks)[2] == [[0, 1, 2], [10, 11, 12]]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "llama", "gpt2"])
def test_true_architectures_have_every_rank_once(architecture: str, tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model(architecture, tmp_path / "m"), outputs=2)
    names = list(target_modules.find(model, "all-linear"))
    rows, columns, cells = rank_map.grid(distinct_ranks(names))
    assert rows == [str(i) for i in range(tiny_models.LAYERS)] and len(columns) == len(set(columns))
    assert sorted(rank for row in cells for rank in row if rank is not None) == list(range(len(names)))
    for row, ranks in zip(rows, cells, strict=True):
        for column, rank in zip(columns, ranks, strict=True):
            assert rank is not None and re.search(rf"\.{row}\.(.+\.)?{re.escape(column)}$", names[rank])


def test_the_map_of_a_model_without_adapted_layers_is_empty() -> None:
    assert rank_map.grid({}) == ([], [], [])
    assert rank_map.summary({}) == "total rank 0, mean 0.0"


def test_summary() -> None:
    assert rank_map.summary({"a.0.q": 0, "a.1.q": 8, "a.2.q": 3}) == "total rank 11, mean 3.7"
