"""Tokenized splits against the tokenizer itself, and the cache that keeps them."""

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
import pytest
from transformers import AutoTokenizer

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import load, tokenization
from autorank.tasks.data import arrow, texts
from autorank.tasks.definition import TaskData
from autorank.tasks.splits.tokenized import Split
from tests import tiny


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.model("bert", folder)
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> TaskSpec:
    (tmp_path / "data").mkdir()
    tiny.pairs_file(tmp_path / "data" / "train.jsonl", 60)
    tiny.pairs_file(tmp_path / "data" / "validation.jsonl", 20, seed=1)
    return TaskSpec(name="mine", data=tmp_path / "data", text=("left", "right"), label="label")


def equal(one: Split, other: Split) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def changed(spec: TaskSpec, **values: Any) -> TaskSpec:
    return spec.model_copy(update=values)


def example(split: Split, index: int) -> tuple[list[int], list[int]]:
    assert split.type_ids is not None
    part = slice(*split.offsets[index : index + 2])
    return split.ids[part].tolist(), split.type_ids[part].tolist()


def test_ids_are_the_tokenizers(cache: Path, model: Path, spec: TaskSpec) -> None:
    data = load(spec, str(model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert (len(data.train), len(data.validation["validation"]), data.pad_id) == (60, 20, 0)
    for index, row in enumerate(tiny.rows(60)):
        wanted = tokenizer(row["left"], row["right"])
        assert example(data.train, index) == (wanted["input_ids"], wanted["token_type_ids"])
    assert data.train.labels.tolist() == [row["label"] for row in tiny.rows(60)]
    dtypes = [data.train.ids, data.train.type_ids, data.train.offsets, data.train.labels]
    assert [array.dtype for array in dtypes] == [np.int32, np.int8, np.int64, np.int64]


def test_cut_at_the_task_or_the_model(cache: Path, model: Path, spec: TaskSpec, tmp_path: Path) -> None:
    assert load(changed(spec, max_length=9), str(model)).train.lengths.max() == 9
    long = tmp_path / "long.jsonl"
    long.write_text("".join(json.dumps({"text": "w1 " * 90, "label": i % 2}) + "\n" for i in range(20)))
    own = TaskSpec(name="long", data=long, text=("text",), label="label")
    assert load(own, str(model)).train.lengths.max() == 64  # the tokenizer's model_max_length

    silent = shutil.copytree(model, tmp_path / "silent")
    config = json.loads((silent / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (silent / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(own, str(silent)).train.lengths.max() == 70  # the model's max_position_embeddings


def test_cut_texts_are_counted(cache: Path, model: Path, spec: TaskSpec) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    whole = [len(tokenizer(row["left"], row["right"])["input_ids"]) for row in tiny.rows(60)]
    limit = sorted(whole)[40]
    for _ in range(2):  # made, then from the cache
        data = load(changed(spec, max_length=limit), str(model))
        assert data.train.cut is not None and data.train.cut.tolist() == [length > limit for length in whole]
        (told,) = data.warnings
        assert f"{sum(length > limit for length in whole)} of 60 (train)" in told
        assert f"cut at {limit} tokens" in told
    few = load(changed(spec, max_length=limit, max_train_examples=10), str(model)).train
    assert few.cut is not None and few.cut.sum() == (few.lengths == limit).sum() - sum(
        len(tokenizer(row["left"], row["right"])["input_ids"]) == limit
        for row in (tiny.rows(60)[i] for i in tokenization.shuffled(60, 10))
    )
    assert load(spec, str(model)).warnings == []


def test_second_load_reads_the_files(
    cache: Path, model: Path, spec: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(spec, str(model))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(texts, "tokenize", None)  # calling it would raise
    copy = shutil.copytree(model, tmp_path / "copy")  # the same tokenizer elsewhere
    second = load(spec, str(copy))
    assert second.digest == first.digest
    assert equal(second.train, first.train)
    assert not second.train.ids.flags.owndata and not second.train.ids.flags.writeable  # a view on the file


def test_text_label_length_and_tokenizer_decide(cache: Path, model: Path, spec: TaskSpec, tmp_path: Path) -> None:
    digests = {load(spec, str(model)).digest, load(changed(spec, max_length=9), str(model)).digest}
    other = tmp_path / "other"
    other.mkdir()
    vocabulary = json.loads((model / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["w1"], words["w2"] = words["w2"], words["w1"]
    shutil.copytree(model, other, dirs_exist_ok=True)
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    digests.add(load(spec, str(other)).digest)
    file = Path(str(spec.data)) / "train.jsonl"
    rows = file.read_text().splitlines()
    file.write_text("\n".join([*rows[1:], rows[0]]))
    digests.add(load(spec, str(model)).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("damage", [b"", b"ARROW1 nonsense", None])
def test_a_broken_file_is_written_again(damage: bytes | None, cache: Path, model: Path, spec: TaskSpec) -> None:
    first = load(spec, str(model))
    kept = Split(*(np.array(array) for array in vars(first.train).values()))
    for path in list(cache.iterdir()):
        content = path.read_bytes()
        path.unlink()  # `first` still has the old one mapped
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert equal(load(spec, str(model)).train, kept)


def test_subset_shares_the_cache(cache: Path, model: Path, spec: TaskSpec) -> None:
    whole = load(spec, str(model))
    limited = changed(spec, max_train_examples=10, max_eval_examples=5)
    part, again = load(limited, str(model)), load(limited, str(model))
    assert len(list(cache.iterdir())) == 2
    assert (len(part.train), len(part.validation["validation"])) == (10, 5)
    assert part.digest == again.digest != whole.digest and equal(part.train, again.train)

    examples = [example(whole.train, i) for i in range(60)]
    chosen = [examples.index(example(part.train, i)) for i in range(10)]
    assert chosen == sorted(set(chosen)) != list(range(10))
    assert part.train.labels.tolist() == whole.train.labels[chosen].tolist()

    more = load(changed(limited, max_train_examples=20), str(model)).train  # a larger one holds the smaller
    assert {str(example(part.train, i)) for i in range(10)} <= {str(example(more, i)) for i in range(20)}
    assert load(changed(spec, max_train_examples=60), str(model)).digest == whole.digest


def test_without_pyarrow(cache: Path, model: Path, spec: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = load(spec, str(model))
    shutil.rmtree(cache)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    without: TaskData = load(spec, str(model))
    assert without.digest == with_it.digest and equal(without.train, with_it.train)
    assert not cache.exists()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk(failing: str, cache: Path, model: Path, spec: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(AutorankError, match="No space left on device") as caught:
        load(spec, str(model))
    assert str(cache) in str(caught.value) and "AUTORANK_CACHE" in str(caught.value)
    assert not list(cache.iterdir())  # nothing half-written


def test_cache_folder_that_cannot_be(
    model: Path, spec: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(AutorankError, match="AUTORANK_CACHE"):
        load(spec, str(model))


def test_model_without_padding_or_type_ids(cache: Path, spec: TaskSpec, tmp_path: Path) -> None:
    folder = tmp_path / "gpt"
    tiny.model("gpt2", folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    config["model_input_names"] = ["input_ids", "attention_mask"]
    path.write_text(json.dumps({**config, "eos_token": "[SEP]"}))
    data = load(spec, str(folder))
    assert data.train.type_ids is None and data.pad_id == 3  # the end token fills up
    path.write_text(json.dumps(config))
    with pytest.raises(AutorankError, match="no padding token"):
        load(spec, str(folder))


def test_models_without_a_tokenizer(cache: Path, model: Path, spec: TaskSpec, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(AutorankError, match="bare"):
        load(spec, str(bare))
    shutil.copy(model / "config.json", bare)
    with pytest.raises(AutorankError, match="has no tokenizer"):  # transformers would make one up
        load(spec, str(bare))
    with pytest.raises(AutorankError, match="Did you mean"):
        load(spec, f"{bare}e")


def test_a_reader_sees_whole_files_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    script = """
import sys
from pathlib import Path
import numpy as np
from autorank.tasks.data import texts
from autorank.tasks.splits.tokenized import Split
from autorank.tasks.data.arrow import write

for size in range(1, 200):
    ids = np.full(size * 100, size, np.int32)
    write(Split(ids, None, np.arange(0, len(ids) + 1, 100), np.full(size, size)), Path(sys.argv[1]))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        split = arrow.read(path, Split)
        if split is not None:
            assert set(split.ids.tolist()) == set(split.labels.tolist()) == {len(split)}
            seen.add(len(split))
        assert split is not None or not seen  # once there, always there
    assert [writer.returncode for writer in writers] == [0, 0] and len(seen) > 1
    assert list(tmp_path.iterdir()) == [path]
