"""Forms of JSON files, nested columns, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from autorank.errors import AutorankError
from autorank.tasks.reading.file_set import find_files

FRAME = pd.DataFrame({"text": ["a", "b"], "label": [1, 2]})


def read(path: Path, content: str, *names: str) -> dict[str, list[object]]:
    path.write_text(content)
    table = find_files(str(path)).read("train", names or ("text", "label"))
    return {name: list(values) for name, values in table.columns.items()}


@pytest.mark.parametrize(
    "content",
    [
        FRAME.to_json(orient="records"),
        FRAME.to_json(orient="records", lines=True),
        FRAME.to_json(),  # {"text": {"0": "a", ...}, ...}
        FRAME.to_json(orient="table"),
        FRAME.to_json(orient="index"),
        FRAME.to_json(orient="split"),
        json.dumps(FRAME.to_dict(orient="list")),
        json.dumps({"version": 1, "data": FRAME.to_dict(orient="records")}, indent=1),
        json.dumps(FRAME.to_dict(orient="records"), indent=2),
        '\n{"text": "a", "label": 1}\r\n\r\n{"text": "b", "label": 2}',
    ],
)
def test_forms(content: str, tmp_path: Path) -> None:
    assert read(tmp_path / "x.json", content) == {"text": ["a", "b"], "label": [1, 2]}


def test_nested_columns(tmp_path: Path) -> None:
    rows = [{"a.b": 0, "a": {"b": 1, "c": {"d": 2}}, "list": [{"x": 3}, {"x": 4}]}, {"a.b": 5, "a": None, "list": []}]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    names = ("a.b", "a.c.d", "list.1.x")
    assert read(tmp_path / "x.jsonl", content, *names) == {
        "a.b": [0, 5],  # a column with this name comes first
        "a.c.d": [2, None],
        "list.1.x": [4, None],
    }
    with pytest.raises(AutorankError, match=r"Unknown column 'a\.d'. Did you mean .*Available: .*a\.c"):
        read(tmp_path / "x.jsonl", content, "a.d")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", '{"text": "a", "label": 1, "text": "b"}', ["line 1", "key 'text' twice"]),
        ("x.json", '[{"text": "a", "label": 1},\n {"text": "b" "label": 2}]', ["line 2", "not valid JSON"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"text": "b"\n{}', ["line 2", "not valid JSON"]),
        ("x.jsonl", '{"text": "b"\n{"text": "a", "label": 1}\n', ["line 1", "not valid JSON"]),
        ("x.json", '[{"text": "a", "label": 1}, 3]', ["row 2", "expected a JSON object, got int"]),
        ("x.json", "3", ["expected rows"]),
        ("x.json", "[" * 100_000, ["not valid JSON"]),
        ("x.jsonl", '{"text": "a"}\n[1]', ["line 2", "got list"]),
        ("x.json", '{"train": [{"text": "a", "label": 1}], "test": [{"text": "a", "label": 1}]}', ["Unknown column"]),
    ],
)
def test_messages_for_invalid_files(name: str, content: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(AutorankError) as caught:
        read(tmp_path / name, content)
    assert all(word in str(caught.value) for word in [name, *words]), str(caught.value)


def test_line_separators_inside_texts(tmp_path: Path) -> None:
    assert read(tmp_path / "x.jsonl", '{"text": "a\u2028b\x85c", "label": 1}\n')["text"] == ["a\u2028b\x85c"]


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"different numbers of values: 'text' has 3, 'label' has 1\. Write one"):
        read(tmp_path / "x.json", '{"text": ["a", "b", "c"], "label": [1]}')
