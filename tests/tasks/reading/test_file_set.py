"""Files, directories, patterns and addresses, and the splits in them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from autorank.errors import AutorankError
from autorank.tasks.reading.data_file import DataFile
from autorank.tasks.reading.file_set import find_files, split_of

ROWS = {"text": ["ünï", "", "c d"], "label": [1, 2, 1]}
RECORDS = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
CSV = "text,label\nünï,1\n,2\nc d,1\n"
JSONL = "".join(json.dumps(row) + "\n" for row in RECORDS)


def values(data: Path | str, split: str = "train") -> tuple[list[object], list[int]]:
    table = find_files(str(data)).read(split, ("text", "label"))
    return list(table["text"]), [int(label) for label in table["label"]]


def parquet(path: Path) -> None:
    pq.write_table(pa.table(ROWS), path)


def stream(path: Path) -> None:
    with pa.ipc.new_stream(path, pa.table(ROWS).schema) as writer:
        writer.write_table(pa.table(ROWS))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.csv", lambda path: path.write_text(CSV)),
        ("x.tsv", lambda path: path.write_text(CSV.replace(",", "\t"))),
        ("x.jsonl", lambda path: path.write_text(JSONL)),
        ("x.ndjson", lambda path: path.write_text(JSONL)),
        ("x.json", lambda path: path.write_text(JSONL)),
        ("x.json", lambda path: path.write_text(json.dumps(RECORDS, indent=2))),
        ("X.CSV", lambda path: path.write_text(CSV)),
        ("x.csv.gz", lambda path: path.write_bytes(gzip.compress(CSV.encode()))),
        ("x.jsonl.bz2", lambda path: path.write_bytes(bz2.compress(JSONL.encode()))),
        ("x.csv.xz", lambda path: path.write_bytes(lzma.compress(CSV.encode()))),
        ("x.csv", lambda path: path.write_bytes(gzip.compress(CSV.encode()))),  # compressed without saying so
        ("x.parquet", parquet),
        ("x.arrow", stream),
        ("x.feather", lambda path: feather.write_feather(pa.table(ROWS), str(path))),
    ],
)
def test_every_format(name: str, write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / name)
    assert values(tmp_path / name) == (ROWS["text"], ROWS["label"])
    assert values(tmp_path) == (ROWS["text"], ROWS["label"])  # the only file of a directory


def test_zip_with_one_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.csv.zip", "w") as archive:
        archive.writestr("x.csv", CSV)
    assert values(tmp_path / "x.csv.zip")[1] == [1, 2, 1]
    with zipfile.ZipFile(tmp_path / "x.csv.zip", "a") as archive:
        archive.writestr("y.csv", CSV)
    with pytest.raises(AutorankError, match=r"x\.csv\.zip is not a valid \.zip file \(it has 2 files"):
        values(tmp_path / "x.csv.zip")


@pytest.mark.parametrize(("offset", "value", "words"), [(6, 1, "is encrypted"), (8, 9, "method is not supported")])
def test_zip_that_cannot_be_decompressed(offset: int, value: int, words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.csv.zip", "w") as archive:
        archive.writestr("x.csv", CSV)
    content = bytearray((tmp_path / "x.csv.zip").read_bytes())
    content[offset] = content[content.index(b"PK\x01\x02") + offset + 2] = value  # flags or method of compression
    (tmp_path / "x.csv.zip").write_bytes(content)
    with pytest.raises(AutorankError, match=rf"x\.csv\.zip is not a valid \.zip file \(.*{words}"):
        values(tmp_path / "x.csv.zip")


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.csv.gz"])
def test_a_pointer_of_git_lfs(name: str, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1048576\n"
    (tmp_path / name).write_text(pointer)
    with pytest.raises(AutorankError, match=r"x\.\S+ is a pointer of Git LFS, not the data\. Run `git lfs pull`"):
        find_files(str(tmp_path / name)).read("train", ["text"])


def test_damaged_compression(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(CSV.encode())[:20])
    with pytest.raises(AutorankError, match=r"x\.csv\.gz is not a valid \.gz file"):
        values(tmp_path / "x.csv.gz")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00002.csv", "train-00001-of-00002.csv"], {"train": 2}),
        (["part-0000.csv", "part-0001.csv", "_SUCCESS", ".part-0000.csv.crc"], {"train": 2}),
        (["train.csv", "dev.csv", "test.csv", "README.md"], {"train": 1, "validation": 1, "test": 1}),
        (["data/train/a.csv", "data/train/b.csv", "data/val/a.csv"], {"train": 2, "validation": 1}),
        (["my_training_set.csv", "my-validation-set.csv"], {"train": 1, "validation": 1}),
        (["january.csv", "february.csv"], {"train": 2}),
        (["train.csv", "train_small.csv", "backup/train.csv"], {"train": 1}),
    ],
)
def test_splits_of_a_folder(names: list[str], splits: dict[str, int], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(CSV)
    files = find_files(str(tmp_path))
    assert {split: len(files.read(split, ("label",))) // 3 for split in files.splits} == splits


@pytest.mark.parametrize(
    "names",
    [
        ["train_full.csv", "train_small.csv"],
        ["valid.csv", "dev.csv", "train.csv"],
        ["mrpc/train-00000-of-00001.csv", "rte/train-00000-of-00001.csv"],
        ["a.csv", "b.jsonl"],
    ],
)
def test_several_files_that_are_not_parts_are_refused(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(CSV)
    files = find_files(str(tmp_path))
    with pytest.raises(AutorankError, match=r"has several files for .*Keep one"):
        for split in files.splits:
            files.read(split, ("label",))


def test_pattern(tmp_path: Path) -> None:
    for name in ("a-train.csv", "b-train.csv", "a-dev.csv", "notes.txt"):
        (tmp_path / name).write_text(CSV)
    assert find_files(str(tmp_path / "a-*")).splits == ["validation", "train"]
    assert len(find_files(str(tmp_path / "[ab]*n.csv")).files) == 2
    with pytest.raises(AutorankError, match="does not exist"):
        find_files(str(tmp_path / "c*.csv"))


def test_messages_of_several_files_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text(CSV)
    (tmp_path / "part-1.csv").write_text("text,lable\na,1\n")
    with pytest.raises(AutorankError, match=r"part-1\.csv: Unknown column 'label'. Did you mean 'lable'"):
        values(tmp_path)
    (tmp_path / "part-1.csv").write_text("text,label\na,1\nb,2\n")
    table = find_files(str(tmp_path)).read("train", ("text",))
    assert table.rows([4]) == "row 2 of part-1.csv (counted from 1, 1 in all)"


def test_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict({"train": dataset, "validation": dataset}).save_to_disk(str(tmp_path / "both"))
    assert find_files(str(tmp_path / "both")).splits == ["train", "validation"]
    assert values(tmp_path / "both", "validation") == (ROWS["text"], ROWS["label"])


def test_addresses(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/train.csv", CSV.encode())
    memory.pipe("/bucket/dev.jsonl", JSONL.encode())
    assert values("memory://bucket/train.csv") == (ROWS["text"], ROWS["label"])
    assert values("memory://bucket", "validation") == (ROWS["text"], ROWS["label"])
    assert len(find_files("memory://bucket/*.csv").files) == 1
    with pytest.raises(AutorankError, match=r"'memory://bucket/gone\.csv' does not exist"):
        find_files("memory://bucket/gone.csv")
    assert DataFile("host/x.csv.gz?download=1", memory).suffix == ".csv"
    with pytest.raises(AutorankError, match=r"nope:// is not a known kind of address"):
        find_files("nope://bucket/x.csv")


def test_a_missing_package_of_a_file_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(address: str) -> None:
        raise ImportError("no such package")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    for address, package in (("s3://bucket/x.csv", "s3fs"), ("gs://bucket/x.csv", "gcsfs")):
        with pytest.raises(AutorankError, match=f"need another package. Run `pip install {package}`"):
            find_files(address)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("dev-00000-of-00001.parquet", "validation"), ("strain.csv", None), ("X_Test.CSV", "test")],
)
def test_split_names_in_file_names(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_columns_that_all_files_of_a_split_have(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text(CSV)
    (tmp_path / "part-1.csv").write_text("label;text;more\n1;a;b\n")
    assert find_files(str(tmp_path)).columns("train") == ["text", "label"]
    contents = {"x.csv": CSV, "x.jsonl": '{"text": 1}\n{"label": 2}', "x.json": json.dumps({"data": RECORDS})}
    for name, content in contents.items():
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_text(content)
        assert {"text", "label"} <= set(find_files(str(tmp_path / "one" / name)).columns("train"))
    writers: dict[str, Callable[[Path], None]] = {"y.parquet": parquet, "y.arrow": stream}
    for name, write in writers.items():
        write(tmp_path / "one" / name)
        assert find_files(str(tmp_path / "one" / name)).columns("train") == ["text", "label"]
        (tmp_path / "one" / name).write_text("nonsense")
        with pytest.raises(AutorankError, match="is not a valid"):
            find_files(str(tmp_path / "one" / name)).columns("train")


def test_a_dataset_dict_without_split_words_has_its_own_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict({"foo": dataset, "bar": dataset}).save_to_disk(str(tmp_path / "both"))
    files = find_files(str(tmp_path / "both"))
    assert files.splits == ["bar", "foo"] and values(tmp_path / "both", "foo") == (ROWS["text"], ROWS["label"])
    with pytest.raises(AutorankError, match="has no train file"):
        files.read("train", ("text",))
