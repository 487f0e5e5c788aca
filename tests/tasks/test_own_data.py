"""Reading the user's files, and the message for each mistake in them."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks.kinds.classification import CLASSIFICATION
from autorank.tasks.kinds.regression import REGRESSION
from autorank.tasks.named.glue import GLUE
from autorank.tasks.own_data import Splits, open_dataset, read_named, read_own
from autorank.tasks.reading.file_set import find_files
from autorank.tasks.splits.table import Table

AWKWARD = ['comma, "quote"', "line\nbreak", "", "ünïcode – 漢字", " space "]
ROWS = {"premise": AWKWARD, "hypothesis": list("abcde"), "verdict": ["yes", "no", "yes", "no", "no"]}

Columns = dict[str, list[object]]


def write_csv(path: Path, columns: Columns) -> Path:
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path.with_suffix(".csv")


def write_jsonl(path: Path, columns: Columns) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.with_suffix(".jsonl")


def write_parquet(path: Path, columns: Columns) -> Path:
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WRITERS = [write_csv, write_jsonl, write_parquet]


def read(path: Path, names: tuple[str, ...]) -> Table:
    return find_files(str(path)).read("train", names)


def labeled_rows(count: int) -> Columns:
    """`count` rows, a quarter of them `yes`."""
    return {
        "text": [f"text {i}" for i in range(count)],
        "label": ["no" if i % 4 else "yes" for i in range(count)],
    }


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same(write: Callable[[Path, Columns], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "rows", dict(ROWS))
    assert read(path, ("premise", "verdict")).columns == {"premise": AWKWARD, "verdict": ROWS["verdict"]}


def test_byte_order_mark_and_long_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\ufefftext,label\n" + "x" * 200_000 + ",1\n\n", encoding="utf-8")
    assert [len(text) for text in read(path, ("text",))["text"]] == [200_000]


def splits_of(data: Path | str, **options: Any) -> Splits:
    return read_own(TaskSpec(name="mine", data=data, **{"text": ("text",), "label": "label", **options}))


def error_message(path: Path | str, **options: Any) -> str:
    with pytest.raises(AutorankError) as caught:
        splits_of(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "", ["x.csv is empty"]),
        ("x.csv", "text,label\n", ["no rows"]),
        ("x.csv", "txt,label\na,1\n", ["Unknown column 'text'", "Did you mean 'txt'", "label"]),
        ("x.csv", "txt,lable\na,1\n", ["'text'", "'txt'", "'label'", "'lable'"]),  # both at once
        ("x.csv", "txt;label\na;1\n", ["Did you mean 'txt'", "Available: label, txt"]),
        ("x.csv", "text,label\na,1\nb,c,0\n", ["line 3", "3 fields", "header has 2", "comma"]),
        ("x.csv", 'text,label\n"a"b,1\n', ["line 2", "not valid csv"]),
        ("x.csv", "text,label\na,yes\nb,\nc,no\nd, \n", ["no label in rows 2, 4", "2 in all"]),
        ("x.csv", "text,label\na,1.5\nb,inf\nc,nan\n", ["no label in row 3"]),
        ("x.csv", "text,label\na,yes\nb,yes\n", ["only one value, yes"]),
        ("x.csv", "text,label\na,yes\nb,no\n", ["too few rows"]),
        ("x.jsonl", "", ["no rows"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"\n', ["line 3", "not valid JSON"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n[1]\n', ["line 2", "expected a JSON object, got list"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"label": 0}\n', ["no text in row 2"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', ["no label in row 2"]),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n', ["no label in row 2"]),
        ("x.jsonl", '{"text": "a", "lbl": 1}\n', ["Unknown column 'label'", "Did you mean 'lbl'"]),
        ("x.parquet", "PAR1 nonsense", ["not a valid parquet file"]),
        ("x.csv", 'text,label\na,"4,5"\nb,3\n', ["numbers with a comma, such as '4,5'", "--label-type class"]),
        ("x.xlsx", "PK", ["'.xlsx'", ".csv", ".parquet"]),
    ],
)
def test_messages_for_invalid_files(name: str, content: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    message = error_message(path)
    assert all(word in message for word in [name, *words]), message


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    assert "does not exist" in error_message(tmp_path / "gone.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ncafé,1\n".encode("latin-1"))
    assert "not UTF-8" in error_message(path)


def test_missing_parquet_column_and_null_label(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x", {"text": ["a", "b", "c"], "label": [0, None, 1]})
    assert "no label in row 2" in error_message(path)
    assert "Did you mean 'text'?" in error_message(path, text=("texts",))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet, jsonl = (write(tmp_path / "x", labeled_rows(40)) for write in (write_parquet, write_jsonl))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in error_message(parquet)
    assert len(splits_of(jsonl)[1]) == 36


def test_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    task, train, validation = splits_of(write_csv(tmp_path / "x", labeled_rows(200)))
    held_out = validation["validation"]
    assert task.label_names == ("no", "yes") and set(validation) == {"validation"}
    assert Counter(held_out.labels.tolist()) == {0: 15, 1: 5}
    assert sorted([*train.texts[0], *held_out.texts[0]]) == sorted(labeled_rows(200)["text"])
    assert all(
        (int(text.split()[1]) % 4 == 0) == label for text, label in zip(held_out.texts[0], held_out.labels, strict=True)
    )
    reread = splits_of(tmp_path / "x.csv")[2]["validation"]
    assert held_out.digest == reread.digest


def test_classes_with_a_single_example_stay_in_train() -> None:
    labels = np.array([0] * 12 + [1] * 2 + [2])
    held_out = CLASSIFICATION.validation_part(labels)
    assert Counter(labels[held_out].tolist()) == {0: 1, 1: 1}
    assert len(REGRESSION.validation_part(np.linspace(0, 1, 50))) == 5


@pytest.mark.parametrize("name", ["validation", "dev", "valid"])
def test_folder_with_validation(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "train", labeled_rows(8))
    write_jsonl(tmp_path / name, labeled_rows(4))
    _, train, validation = splits_of(tmp_path)
    assert (len(train), len(validation["validation"])) == (8, 4)


def test_names_that_mean_one_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "train", labeled_rows(80))
    write_csv(tmp_path / "dev", labeled_rows(40))
    _, train, validation = splits_of(tmp_path, train_split="dev")
    assert (len(train), len(validation["validation"])) == (36, 4)  # held out
    assert "--eval-split dev shares rows with the training split, validation" in error_message(
        tmp_path, train_split="validation", eval_split="dev"
    )


def test_only_files_of_a_split_are_read_if_one_names_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews_train", labeled_rows(80))
    write_csv(tmp_path / "reviews_holdout", labeled_rows(8))
    _, train, validation = splits_of(tmp_path)
    assert (len(train), len(validation["validation"])) == (72, 8)  # a tenth of the 80


def test_blanks_around_the_names_of_columns(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x", {" text": labeled_rows(8)["text"], "label ": labeled_rows(8)["label"]})
    assert len(splits_of(path)[1]) == 6  # one of each class is held out


def test_labels_that_only_validation_has(tmp_path: Path) -> None:
    write_csv(tmp_path / "train", labeled_rows(8))
    write_csv(tmp_path / "dev", {"text": ["a", "b", "c"], "label": ["yes", "maybe", "perhaps"]})
    message = error_message(tmp_path)
    assert all(word in message for word in ["dev.csv", "'maybe', 'perhaps'", "rows 2, 3", "'no', 'yes'"]), message


def test_folders_with_invalid_splits(tmp_path: Path) -> None:
    write_csv(tmp_path / "test", labeled_rows(8))
    assert "no training split. Available: test" in error_message(tmp_path)
    write_csv(tmp_path / "train", labeled_rows(8))
    write_jsonl(tmp_path / "train", labeled_rows(8))
    assert "several files for train: train.csv, train.jsonl" in error_message(tmp_path)


def mrpc(count: int) -> Columns:
    return {
        "sentence1": [f"one {i}" for i in range(count)],
        "sentence2": [f"two {i}" for i in range(count)],
        "label": [i % 2 for i in range(count)],
        "idx": list(range(count)),
    }


@pytest.mark.parametrize("write", WRITERS)
def test_named_task_from_a_folder(write: Callable[[Path, Columns], Path], tmp_path: Path) -> None:
    write(tmp_path / "train", mrpc(6))
    write(tmp_path / "validation", mrpc(4))
    task, train, validation = read_named(GLUE["mrpc"], open_dataset(str(tmp_path)))
    assert task is GLUE["mrpc"]
    assert train.texts == (mrpc(6)["sentence1"], mrpc(6)["sentence2"])
    assert validation["validation"].labels.tolist() == [0, 1, 0, 1]


def test_named_task_without_its_files(tmp_path: Path) -> None:
    write_csv(tmp_path / "train", mrpc(6))
    for task, folder, words in [
        ("mrpc", tmp_path, ["no validation file", "validation.csv", "Available: train.csv"]),
        ("mnli", tmp_path, ["no validation_matched file"]),
        ("mrpc", tmp_path / "gone", ["does not exist"]),
        ("mrpc", tmp_path / "train.csv", ["no validation file"]),
    ]:
        with pytest.raises(AutorankError) as caught:
            read_named(GLUE[task], open_dataset(str(folder)))
        assert all(word in str(caught.value) for word in words), str(caught.value)
