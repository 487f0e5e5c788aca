"""Any file is read as pandas reads it, or refused with one message; classes are never merged without a note."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorank.errors import AutorankError
from autorank.tasks.data.columns import to_examples
from autorank.tasks.infer_task import infer_task
from autorank.tasks.reading.file_set import find_files
from autorank.tasks.splits.table import Table

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
WORDS = st.sampled_from(["a", "b", "b ", "\u00a0b", "\u00e9", "e\u0301", "a\u200b", "A", "no label", "\uff41"])
NUMBERS = st.sampled_from(["1", "1.0", "01", "+1", "1e0", "2", " 2", "-0", "0.5", ".5", "3.", "10", "9007199254740993"])
ODD = st.sampled_from(
    ["", " ", "nan", "NA", "None", "null", "inf", "1_0", "\uff11", "\u0663", "1,5", "2020-01-02", "[1]"]
)
BOOLEANS = st.sampled_from(["True", "true", "TRUE", "False", "false", " True"])
COLUMNS = st.one_of(
    *(
        st.lists(kind, min_size=2, max_size=12)
        for kind in (WORDS, NUMBERS, BOOLEANS, WORDS | NUMBERS, WORDS | ODD | BOOLEANS)
    ),
    st.lists(st.integers(-3, 3) | st.integers(2**53, 2**53 + 2), min_size=2, max_size=12),
    st.lists(st.floats(-3, 3, width=32) | st.sampled_from([1.0, 2.0]), min_size=2, max_size=12),
)


@contextmanager
def file(name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        yield Path(folder) / name


def outcome(path: Path) -> tuple[list[str], list[Any], tuple[str, ...]] | None:
    """Texts, classes or numbers, and notes of a file; None if it is refused with a message about it."""
    try:
        table = find_files(str(path)).read("train", ("text", "label"))
        task = infer_task("own", ("text",), table, "label")
        examples = to_examples(task, table, train=True)
    except AutorankError as error:
        assert path.name in str(error)
        return None
    labels = [task.label_names[i] for i in examples.labels] if task.label_names else examples.labels.tolist()
    return list(examples.texts[0]), labels, examples.notes


def check(actual: tuple[list[str], list[Any], tuple[str, ...]] | None, texts: list[str], expected: pd.Series) -> None:
    """Compare an outcome with pandas' reading of the labels: the same classes and counts, or merged with a note."""
    if expected.isna().any():
        assert actual is None
    if actual is None:
        return
    actual_texts, labels, notes = actual
    assert actual_texts == texts
    if isinstance(labels[0], float):
        assert np.array_equal(np.float32(labels), np.float32(expected))
        return
    pairs = Counter(zip(labels, expected.tolist(), strict=True))
    assert len(pairs) == expected.nunique()  # no class of pandas is divided
    assert len({label for label, _ in pairs}) == len(pairs) or notes  # classes are merged with a note


@QUICK
@given(
    labels=COLUMNS, data=st.data(), separator=st.sampled_from(",;\t|"), compressed=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), line_end=st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_csv(
    labels: list[Any], data: st.DataObject, separator: str, compressed: bool, encoding: str, line_end: str
) -> None:
    texts = data.draw(st.lists(TEXTS, min_size=len(labels), max_size=len(labels)))
    frame = pd.DataFrame({"id": range(len(labels)), "label": labels, "text": texts}, dtype=object)
    csv_text = frame.to_csv(index=False, sep=separator, lineterminator=line_end)
    content = csv_text.encode(encoding)
    expected = pd.read_csv(io.StringIO(csv_text), sep=separator, usecols=["label"], engine="c")["label"]
    with file("x.csv", gzip.compress(content) if compressed else content) as path:
        check(outcome(path), texts, expected)


@QUICK
@given(labels=COLUMNS, data=st.data(), lines=st.booleans())
def test_json(labels: list[Any], data: st.DataObject, lines: bool) -> None:
    texts = data.draw(st.lists(st.text(max_size=12), min_size=len(labels), max_size=len(labels)))
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    content = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    with file("x.jsonl" if lines else "x.json", content.encode()) as path:
        actual = outcome(path)
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        assert actual is None
    check(actual, texts, pd.Series(labels))


@QUICK
@given(labels=COLUMNS, data=st.data(), suffix=st.sampled_from(["parquet", "feather"]))
def test_arrow(labels: list[Any], data: st.DataObject, suffix: str) -> None:
    texts = data.draw(st.lists(TEXTS, min_size=len(labels), max_size=len(labels)))
    frame = pd.DataFrame({"text": texts, "label": labels})
    content = io.BytesIO()
    frame.to_parquet(content) if suffix == "parquet" else frame.to_feather(content)
    with file(f"x.{suffix}", content.getvalue()) as path:
        check(outcome(path), texts, frame["label"])


@QUICK
@given(labels=COLUMNS)
def test_formats_agree(labels: list[Any]) -> None:
    """A class is the same in csv and in a format with types, wherever csv is not refused."""
    texts = [f"text {i}" for i in range(len(labels))]
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    with file("x.csv", frame.to_csv(index=False).encode()) as path:
        csv = outcome(path)
    with file("x.json", json.dumps(frame.to_dict(orient="records")).encode()) as path:
        typed = outcome(path)
    if csv is not None:
        assert typed is not None and typed[:2] == csv[:2]


@QUICK
@given(
    content=st.binary(max_size=200) | TEXTS.map(str.encode)
    | st.text("ab1,;\t|\"'\n\r {}[]:\\", max_size=60).map(lambda text: f"text,label\n{text}".encode())
    | st.text('ab1,"\n{}[]: ', max_size=60).map(lambda text: f'{{"text": "a", "label": 1}}\n{text}'.encode()),
    suffix=st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet", "arrow", "csv.gz", "json.bz2", "x.xz", "x.zip"]),
)  # fmt: skip
def test_any_content_is_read_or_refused(content: bytes, suffix: str) -> None:
    with file(f"x.{suffix}", content) as path:
        outcome(path)


@QUICK
@given(data=st.data(), write=st.sampled_from(["parquet", "csv", "json"]))
def test_damaged_files_are_read_or_refused(data: st.DataObject, write: str) -> None:
    frame = pd.DataFrame({"text": ["a", "b c", "d"], "label": [1, 2, 1]})
    writers: dict[str, Callable[[], Any]] = {
        "parquet": frame.to_parquet, "csv": lambda: gzip.compress(frame.to_csv(index=False).encode()),
        "json": lambda: frame.to_json(orient="records").encode(),
    }  # fmt: skip
    content = bytearray(writers[write]())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with file(f"x.{write}", bytes(content[: data.draw(st.integers(1, len(content)))])) as path:
        outcome(path)


@QUICK
@given(labels=st.lists(WORDS | NUMBERS, min_size=2, max_size=12), cut=st.integers(1, 11))
def test_parts_of_a_file_are_read_as_the_file(labels: list[str], cut: int) -> None:
    rows = [f"text {i},{label}\n" for i, label in enumerate(labels)]
    with file("x.csv", ("text,label\n" + "".join(rows)).encode()) as path:
        expected = outcome(path)
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("part-0.csv", rows[:cut]), ("part-1.csv", rows[cut:])):
            (Path(folder) / name).write_text("text,label\n" + "".join(part))
        if expected is not None:
            table = find_files(folder).read("train", ("text", "label"))
            task = infer_task("own", ("text",), table, "label")
            labels_read = to_examples(task, table).labels
            actual = [task.label_names[i] for i in labels_read] if task.label_names else labels_read.tolist()
            assert actual == expected[1]


@pytest.mark.parametrize("label", [object(), b"x", [1], {"a": 1}, 1j, pd.Timestamp("2020-01-01")])
def test_other_values_are_no_labels(label: object) -> None:
    with pytest.raises(AutorankError, match=r"x has"):
        infer_task("own", ("text",), Table({"text": ["a", "b"], "label": ["c", label]}, "x"), "label")
