"""Class names, nested columns and short floats of parquet and Arrow files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from autorank.errors import AutorankError
from autorank.tasks.reading.file_set import find_files


def read(table: pa.Table, path: Path, *names: str) -> dict[str, list[object]]:
    pq.write_table(table, path)
    return {name: list(values) for name, values in find_files(str(path)).read("train", names).columns.items()}


def with_features(table: pa.Table, features: dict[str, object]) -> pa.Table:
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_class_names_are_kept_and_minus_one_is_missing(tmp_path: Path) -> None:
    classes = {"names": ["negative", "positive"], "_type": "ClassLabel"}
    table = pa.table({"label": [0, 1, -1], "inner": [{"label": 1}, None, {"label": 0}], "many": [[0, 1], [], None]})
    features = {"label": classes, "inner": {"label": classes}, "many": {"feature": classes, "_type": "List"}}
    assert read(with_features(table, features), tmp_path / "x.parquet", "label", "inner.label", "many") == {
        "label": ["negative", "positive", None],
        "inner.label": ["positive", None, "negative"],
        "many": [["negative", "positive"], [], None],
    }


def test_class_names_in_a_sequence_of_dicts(tmp_path: Path) -> None:
    classes = {"names": ["person", "place"], "_type": "ClassLabel"}
    table = pa.table({"entity": [{"label": [0, 1], "start": [3, 9]}, {"label": [], "start": []}]})
    features = {"entity": {"feature": {"label": classes}, "_type": "Sequence"}}  # start has no feature
    read_columns = read(with_features(table, features), tmp_path / "x.parquet", "entity.label", "entity.start")
    assert read_columns == {"entity.label": [["person", "place"], []], "entity.start": [[3, 9], []]}


@pytest.mark.parametrize("described", [True, False])
def test_json_text_is_decoded(described: bool, tmp_path: Path) -> None:
    messages: list[list[object]] = [[{"role": "user", "content": "q"}, {"role": "x", "content": ["q"]}], [], [None]]
    texts = [[None if message is None else json.dumps(message) for message in row] for row in messages]
    table = pa.table({"messages": texts, "tool": [{"json": "[1]", "text": "[1]"}, None, {"json": "{", "text": ""}]})
    kinds = {"messages": pa.list_(pa.json_()), "tool": pa.struct({"json": pa.json_(), "text": pa.string()})}
    features = {
        "messages": {"feature": {"_type": "Json"}, "_type": "List"},
        "tool": {"json": {"_type": "Json"}, "text": {"dtype": "string", "_type": "Value"}},
    }
    table = with_features(table, features) if described else table.cast(pa.schema(list(kinds.items())))
    assert read(table, tmp_path / "x.parquet", "messages", "tool.json", "tool.text") == {
        "messages": messages, "tool.json": [[1], None, "{"], "tool.text": ["[1]", None, ""],
    }  # fmt: skip


@pytest.mark.parametrize("metadata", ["[]", "null", '{"info": []}', '{"info": {"features": ["text"]}}'])
def test_metadata_of_other_programs_are_ignored(metadata: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"huggingface": metadata})
    assert read(table, tmp_path / "x.parquet", "text") == {"text": ["a"]}


@pytest.mark.filterwarnings("ignore:Feather V1:DeprecationWarning")
def test_feather_version_1(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(pa.table({"text": ["a", "b"]}), tmp_path / "x.feather", version=1)
    assert find_files(str(tmp_path / "x.feather")).read("train", ["text"]).columns == {"text": ["a", "b"]}


def test_nested_and_categorical_columns(tmp_path: Path) -> None:
    table = pa.table({"pair": [{"en": "a", "fr": "b"}], "kind": pa.array(["x"]).dictionary_encode()})
    assert read(table, tmp_path / "x.parquet", "pair.en", "kind") == {"pair.en": ["a"], "kind": ["x"]}
    with pytest.raises(AutorankError, match=r"Unknown column 'pair\.de'.*pair\.en, pair\.fr"):
        read(table, tmp_path / "x.parquet", "pair.de")


def test_short_floats_are_what_was_written(tmp_path: Path) -> None:
    table = pa.table({"label": pa.array([0.1, None, 2.0], pa.float32())})
    assert read(table, tmp_path / "x.parquet", "label") == {"label": [0.1, None, 2.0]}


def test_messages_for_invalid_files(tmp_path: Path) -> None:
    double = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(AutorankError, match=r"2 columns named 'text'"):
        read(double, tmp_path / "x.parquet", "text")
    for name in ("y.parquet", "y.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 nonsense")
        with pytest.raises(AutorankError, match=f"{name} is not a valid"):
            find_files(str(tmp_path / name)).read("train", ("text",))


def test_metadata_nested_too_deeply(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"huggingface": "[" * 100_000})
    with pytest.raises(AutorankError, match="not a valid parquet file"):
        read(table, tmp_path / "x.parquet", "text")
