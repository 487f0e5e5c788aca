"""Tokenized splits against the tokenizer's own output, and their cache."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from transformers import AutoTokenizer

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load, tokenization
from autorank.tasks.data import arrow, texts
from autorank.tasks.definition import TaskData
from autorank.tasks.splits.tokenized import Split
from tests import tiny_models

ROWS = tiny_models.rows(60, seed=1)  # the training examples of `spec`


@pytest.fixture
def cache(own_cache: Path) -> Path:
    return own_cache / "tokens"


@pytest.fixture
def spec(tmp_path: Path) -> TaskSpec:
    data = tiny_models.pairs_folder(tmp_path / "data", 60, 20)
    return TaskSpec(name="mine", data=data, text=("left", "right"), label="label")


def equal(first: Split, second: Split) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def with_values(spec: TaskSpec, **values: Any) -> TaskSpec:
    return spec.model_copy(update=values)


def example(split: Split, index: int) -> tuple[list[int], list[int]]:
    assert split.type_ids is not None
    part = slice(*split.offsets[index : index + 2])
    return split.ids[part].tolist(), split.type_ids[part].tolist()


def test_ids_are_the_tokenizers(cache: Path, model: str, spec: TaskSpec) -> None:
    data = load(spec, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert (len(data.train), len(data.validation["validation"]), data.pad_id) == (60, 20, 0)
    for index, row in enumerate(ROWS):
        expected = tokenizer(row["left"], row["right"])
        assert example(data.train, index) == (expected["input_ids"], expected["token_type_ids"])
    assert data.train.labels.tolist() == [row["label"] for row in ROWS]
    arrays = [data.train.ids, data.train.type_ids, data.train.offsets, data.train.labels]
    assert [array.dtype for array in arrays] == [np.int32, np.int8, np.int64, np.int64]


def test_texts_are_cut_at_the_limit_of_task_or_model(cache: Path, model: str, spec: TaskSpec, tmp_path: Path) -> None:
    assert load(with_values(spec, max_length=9), model).train.lengths.max() == 9
    long = tmp_path / "long.jsonl"
    long.write_text("".join(json.dumps({"text": "w1 " * 90, "label": i % 2}) + "\n" for i in range(20)))
    long_spec = TaskSpec(name="long", data=long, text=("text",), label="label")
    assert load(long_spec, model).train.lengths.max() == 64  # the tokenizer's model_max_length

    model_without_limit = shutil.copytree(model, tmp_path / "silent")
    config = json.loads((model_without_limit / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (model_without_limit / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(long_spec, str(model_without_limit)).train.lengths.max() == 70  # the model's max_position_embeddings


def test_cut_texts_are_counted(cache: Path, model: str, spec: TaskSpec) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    full_lengths = [len(tokenizer(row["left"], row["right"])["input_ids"]) for row in ROWS]
    limit = sorted(full_lengths)[40]
    for _ in range(2):  # tokenized, then read from the cache
        data = load(with_values(spec, max_length=limit), model)
        assert data.train.truncated is not None
        assert data.train.truncated.tolist() == [length > limit for length in full_lengths]
        (warning,) = data.warnings
        assert f"{sum(length > limit for length in full_lengths)} of 60 (train)" in warning
        assert f"truncated to {limit} tokens" in warning
    for file in cache.iterdir():
        assert "cut" in pyarrow.ipc.open_file(file).schema.names  # the name in the files of earlier versions
    subset = load(with_values(spec, max_length=limit, max_train_examples=10), model).train
    assert subset.truncated is not None and subset.truncated.sum() == (subset.lengths == limit).sum() - sum(
        len(tokenizer(row["left"], row["right"])["input_ids"]) == limit
        for row in (ROWS[i] for i in tokenization.shuffled(60, 10))
    )
    assert load(spec, model).warnings == []


def test_second_load_reads_the_files(
    cache: Path, model: str, spec: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(spec, model)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(texts, "tokenize", None)  # calling it would raise
    copy = shutil.copytree(model, tmp_path / "copy")  # the same tokenizer elsewhere
    second = load(spec, str(copy))
    assert second.digest == first.digest
    assert equal(second.train, first.train)
    assert not second.train.ids.flags.owndata and not second.train.ids.flags.writeable  # a view on the file


def test_digest_of_text_label_length_and_tokenizer(cache: Path, model: str, spec: TaskSpec, tmp_path: Path) -> None:
    digests = {load(spec, model).digest, load(with_values(spec, max_length=9), model).digest}
    changed_model = tmp_path / "other"
    changed_model.mkdir()
    vocabulary = json.loads(Path(model, "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["w1"], words["w2"] = words["w2"], words["w1"]
    shutil.copytree(model, changed_model, dirs_exist_ok=True)
    (changed_model / "tokenizer.json").write_text(json.dumps(vocabulary))
    digests.add(load(spec, str(changed_model)).digest)
    file = Path(str(spec.data)) / "train.jsonl"
    rows = file.read_text().splitlines()
    file.write_text("\n".join([*rows[1:], rows[0]]))
    digests.add(load(spec, model).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("damage", [b"", b"ARROW1 nonsense", None])
def test_a_broken_file_is_written_again(damage: bytes | None, cache: Path, model: str, spec: TaskSpec) -> None:
    first = load(spec, model)
    train_copy = Split(*(np.array(array) for array in vars(first.train).values()))
    for path in list(cache.iterdir()):
        content = path.read_bytes()
        path.unlink()  # `first` still maps the old file
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert equal(load(spec, model).train, train_copy)


def test_subset_shares_the_cache(cache: Path, model: str, spec: TaskSpec) -> None:
    full = load(spec, model)
    limited = with_values(spec, max_train_examples=10, max_eval_examples=5)
    subset, reloaded = load(limited, model), load(limited, model)
    assert len(list(cache.iterdir())) == 2
    assert (len(subset.train), len(subset.validation["validation"])) == (10, 5)
    assert subset.digest == reloaded.digest != full.digest and equal(subset.train, reloaded.train)

    examples = [example(full.train, i) for i in range(60)]
    chosen = [examples.index(example(subset.train, i)) for i in range(10)]
    assert chosen == sorted(set(chosen)) != list(range(10))
    assert subset.train.labels.tolist() == full.train.labels[chosen].tolist()

    larger = load(with_values(limited, max_train_examples=20), model).train  # contains the smaller subset
    assert {str(example(subset.train, i)) for i in range(10)} <= {str(example(larger, i)) for i in range(20)}
    assert load(with_values(spec, max_train_examples=60), model).digest == full.digest


def test_without_pyarrow(cache: Path, model: str, spec: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with_pyarrow = load(spec, model)
    shutil.rmtree(cache)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    without_pyarrow: TaskData = load(spec, model)
    assert without_pyarrow.digest == with_pyarrow.digest and equal(without_pyarrow.train, with_pyarrow.train)
    assert not cache.exists()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk(failing: str, cache: Path, model: str, spec: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_no_space(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, raise_no_space)
    with pytest.raises(AutorankError, match="No space left on device") as caught:
        load(spec, model)
    assert str(cache) in str(caught.value) and "AUTORANK_CACHE" in str(caught.value)
    assert not list(cache.iterdir())  # nothing half-written


def test_cache_folder_that_cannot_be_created(
    model: str, spec: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(AutorankError, match="AUTORANK_CACHE"):
        load(spec, model)


def test_model_without_padding_or_type_ids(cache: Path, spec: TaskSpec, tmp_path: Path) -> None:
    folder = tmp_path / "gpt"
    tiny_models.model("gpt2", folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    config["model_input_names"] = ["input_ids", "attention_mask"]
    path.write_text(json.dumps({**config, "eos_token": "[SEP]"}))
    data = load(spec, str(folder))
    assert data.train.type_ids is None and data.pad_id == 3  # padded with the end token
    path.write_text(json.dumps(config))
    with pytest.raises(AutorankError, match="no padding token"):
        load(spec, str(folder))


def test_models_without_a_tokenizer(cache: Path, model: str, spec: TaskSpec, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(AutorankError, match="bare"):
        load(spec, str(bare))
    shutil.copy(Path(model, "config.json"), bare)
    with pytest.raises(AutorankError, match="has no tokenizer"):  # transformers would construct one
        load(spec, str(bare))
    with pytest.raises(AutorankError, match="Did you mean"):
        load(spec, f"{bare}e")


def test_a_reader_gets_complete_files_while_other_processes_write(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    script = """
import sys
from pathlib import Path
import numpy as np
import pyarrow
from autorank.tasks.data import texts
from autorank.tasks.splits.tokenized import Split
from autorank.tasks.data.arrow import write

for size in range(1, 200):
    ids = np.full(size * 100, size, np.int32)
    write(Split(ids, None, np.arange(0, len(ids) + 1, 100), np.full(size, size)), Path(sys.argv[1]))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(2)]
    sizes = set()
    while any(writer.poll() is None for writer in writers):
        split = arrow.read(path, Split)
        if split is not None:
            assert set(split.ids.tolist()) == set(split.labels.tolist()) == {len(split)}
            sizes.add(len(split))
        assert split is not None or not sizes  # once written, the file stays readable
    assert [writer.returncode for writer in writers] == [0, 0] and len(sizes) > 1
    assert list(tmp_path.iterdir()) == [path]
