"""Separators, encodings and mistakes of csv files."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import Literal

import pandas as pd
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


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_nested_names_are_refused(name: str, tmp_path: Path) -> None:
    content = "translation,review\n\"{'en': 'a', 'de': 'b'}\",good\n"
    for column in ("translation.en", "review.txt", "review.0"):
        words = f"Unknown column '{column}'. Did you mean .*have no nested columns: convert the file to jsonl"
        with pytest.raises(AutorankError, match=words):
            read(tmp_path / name, content, column, "review")
    assert read(tmp_path / name, "review.txt;label\na;b\n", "review.txt") == {"review.txt": ["a"]}


@pytest.mark.parametrize("stray", [{4: '"Wow', 16: 'left."'}, {4: '"Wow'}, {4: '"Wow" he'}, {4: '"Wow', 5: 'a" b'}])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_unquoted_tsv_with_stray_quotes(stray: dict[int, str], end: str, tmp_path: Path) -> None:
    texts = [stray.get(i, f"text {i}") for i in range(40)]
    lines = "".join(f"{text}\t{i % 2}{end}" for i, text in enumerate(texts))
    columns = read(tmp_path / "x.tsv", f"text\tlabel{end}{lines}")
    assert columns == {"text": texts, "label": [str(i % 2) for i in range(40)]}
    lines = "".join(f"{i % 2}\t{text}{end}" for i, text in enumerate(texts))
    assert read(tmp_path / "x.tsv", f"label\ttext{end}{lines}")["text"] == texts


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_quoted_tsv(quoting: Literal[0, 1, 2], tmp_path: Path) -> None:
    texts = ['a "b" c', "tab\there", "line\nbreak", "tab\tand\nbreak", '"', "plain"]
    frame = pd.DataFrame({"text": texts, "label": range(6)})
    frame.to_csv(tmp_path / "x.tsv", sep="\t", index=False, quoting=quoting)
    assert read(tmp_path / "x.tsv", (tmp_path / "x.tsv").read_bytes())["text"] == texts


def test_a_tsv_with_a_broken_row_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"x\.tsv, line 3: not valid csv"):
        read(tmp_path / "x.tsv", 'text\tlabel\na\t1\n"b\t2\nc\n')
