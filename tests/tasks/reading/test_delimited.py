"""Separators, encodings and mistakes of csv files."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.tasks.reading.file_set import find_files


def read(path: Path, content: str | bytes, *names: str) -> dict[str, list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = find_files(str(path)).read("train", names or ("text", "label"))
    return {name: list(values) for name, values in table.columns.items()}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_separators(name: str, separator: str, tmp_path: Path) -> None:
    content = f'id{separator}text{separator}label\n1{separator}"a{separator} b"{separator}c,;d\n'.replace(
        "c,;d", "c" if separator in ",;" else "c,;d"
    )
    columns = read(tmp_path / name, content)
    assert columns["text"] == [f"a{separator} b"] and columns["label"] == ["c" if separator in ",;" else "c,;d"]


def test_the_separator_is_the_one_that_gives_the_columns(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "text;label\na, b;c, d\n") == {"text": ["a, b"], "label": ["c, d"]}
    assert read(tmp_path / "x.csv", "sep=;\r\ntext;label\r\na;b\r\n") == {"text": ["a"], "label": ["b"]}
    with pytest.raises(AutorankError, match=r"Did you mean 'text'\? Available: label, text"):
        read(tmp_path / "x.csv", "text;label\na;b\n", "txt", "label")


def test_empty_lines_before_the_header(tmp_path: Path) -> None:
    for beginning in ("\n \r\n", "\n\nsep=,\n"):
        assert read(tmp_path / "x.csv", beginning + "text,label\na,b\n") == {"text": ["a"], "label": ["b"]}
    with pytest.raises(AutorankError, match="line 5: 1 field, but the header has 2"):
        read(tmp_path / "x.csv", "\n\ntext,label\na,b\nc\n")


@pytest.mark.parametrize(
    "encoded",
    [
        "text,label\nü漢,1\n".encode("utf-8-sig"),
        "text,label\nü漢,1\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "text,label\nü漢,1\n".encode("utf-16-be"),
        "text,label\nü漢,1\n".encode("utf-32"),
    ],
)
def test_byte_order_marks(encoded: bytes, tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", encoded) == {"text": ["ü漢"], "label": ["1"]}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str, tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "text,label\nfine,1\n".encode(encoding))["text"] == ["fine"]


def test_other_encodings_are_refused_with_line_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"line 3 has the byte 0xe9.*iconv -f WINDOWS-1252 -t UTF-8 x\.csv"):
        read(tmp_path / "x.csv", "text,label\na,1\ncaf\u00e9,0\n".encode("cp1252"))


def test_blanks_and_line_ends(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", " text , label\r\na b,1\r\n\r\n   \r\nc,2") == {
        "text": ["a b", "c"],
        "label": ["1", "2"],
    }
    assert read(tmp_path / "x.csv", "text,label\ra,1\rb,2\r")["label"] == ["1", "2"]
    assert read(tmp_path / "x.csv", 'text,label\n"a\n\nb",1\n')["text"] == ["a\n\nb"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label,text\na,1,b\n", ["2 columns named 'text' (columns 1, 3)"]),
        ('text,label\na,1\n"b,2\nc,3\n', ["line 3", "not valid csv", "Close the quotes"]),
        ('text,label\n"x\ny",1\nb,2,3\n', ["line 4: 3 fields", "header has 2", "comma"]),
        ("text,label\nb\n", ["line 2: 1 field,"]),
        ("\n", ["is empty"]),
    ],
)
def test_mistakes_name_the_line(content: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(AutorankError) as caught:
        read(tmp_path / "x.csv", content)
    assert all(word in str(caught.value) for word in ["x.csv", *words]), str(caught.value)


def test_a_duplicate_of_an_unread_column_is_allowed(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "text,x,x,label\na,1,2,b\n") == {"text": ["a"], "label": ["b"]}


def test_a_missing_header_is_named_and_long_names_are_cut(tmp_path: Path) -> None:
    with pytest.raises(AutorankError) as caught:
        read(tmp_path / "x.csv", "good " * 100 + ",pos\nbad,neg\n")
    message = str(caught.value)
    assert "must have the names of the columns" in message and "good ..., pos" in message and len(message) < 500


def test_similar_names_among_many_columns_are_listed(tmp_path: Path) -> None:
    header = ",".join([*(f"c{i}" for i in range(500)), "text", "lable"])
    with pytest.raises(AutorankError) as caught:
        read(tmp_path / "x.csv", header + "\n")
    message = str(caught.value)
    assert "Did you mean 'lable'?" in message and "more." in message and len(message) < 500


def test_a_column_may_be_read_twice(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "text,label\na,1\n", "text", "text", "label") == {"text": ["a"], "label": ["1"]}
