"""The two views of a task's data: in a search, which holds out a tune split for selection, and in its final runs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from autorank.errors import AutorankError
from autorank.options.run import RunOptions
from autorank.spec import TaskSpec, TrainSpec
from autorank.tasks import load
from autorank.tasks.data import texts
from autorank.tasks.definition import TaskData
from autorank.tasks.splits.tokenized import Split
from tests import tiny_models

Load = Callable[..., TaskData]


@pytest.fixture
def folder(tmp_path: Path, own_cache: Path) -> Path:
    tiny_models.pairs_folder(tmp_path / "data", 60, 20)
    return tmp_path


@pytest.fixture
def view(folder: Path, model: str) -> Load:
    """Load the pairs with these values in the spec."""
    return lambda **values: load(
        TaskSpec(name="mine", text=("left", "right"), label="label", **{"data": folder / "data"} | values), model
    )


@pytest.fixture
def tokenized_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of examples in each call of `tokenize`."""
    sizes: list[int] = []
    tokenize = texts.tokenize

    def counting_tokenize(examples: Any, *arguments: Any) -> Split:
        sizes.append(len(examples))
        return tokenize(examples, *arguments)

    monkeypatch.setattr(texts, "tokenize", counting_tokenize)
    return sizes


def rows(split: Split) -> list[tuple[Any, ...]]:
    """Each example as its tokens, their types and its label."""
    assert split.type_ids is not None
    parts = [slice(*split.offsets[i : i + 2]) for i in range(len(split))]
    labels = split.labels.tolist()
    return [(*split.ids[part], *split.type_ids[part], label) for part, label in zip(parts, labels, strict=True)]


def test_a_fifth_of_each_class_is_held_out(view: Load) -> None:
    full, data = view(), view(tune_split=0.2)
    assert set(data.validation) == {"tune"}
    tune = data.validation["tune"]
    assert Counter(tune.labels.tolist()) == {0: 6, 1: 6} and Counter(data.train.labels.tolist()) == {0: 24, 1: 24}
    before = rows(full.train)
    assert len(set(before)) == 60  # all differ, so that sets can be compared
    assert set(rows(tune)) | set(rows(data.train)) == set(before) and not set(rows(tune)) & set(rows(data.train))
    for split in (tune, data.train):
        positions = [before.index(row) for row in rows(split)]
        assert positions == sorted(positions)
        for row in rows(split):  # the label is still that of these texts: whether their first words are equal
            first = row[1], row[row.index(3) + 1]  # 3: the separator
            assert (first[0] == first[1]) == row[-1]
        dtypes = [array.dtype for array in vars(split).values() if array is not None]
        assert dtypes == [np.int32, np.int8, np.int64, np.int64, np.int8]
    reloaded = view(tune_split=0.2)
    assert rows(reloaded.validation["tune"]) == rows(tune) and reloaded.digest == data.digest


def test_a_final_run_trains_on_the_same_examples(view: Load) -> None:
    full, search, final = view(), view(tune_split=0.2), view(tune_split=0.2, final=True)
    assert rows(final.train) == rows(search.train) and final.digest == search.digest
    assert set(final.validation) == {"validation"}
    assert rows(final.validation["validation"]) == rows(full.validation["validation"])
    assert len({full.digest, search.digest, view(tune_split=0.3).digest}) == 3


def test_without_a_tune_split_nothing_changes(view: Load) -> None:
    for data in (view(tune_split=0), view(final=True)):
        assert data.digest == view().digest and rows(data.train) == rows(view().train)
        assert set(data.validation) == {"validation"}
        assert not data.train.ids.flags.owndata  # still the cached file itself


def test_limits(view: Load) -> None:
    """Training examples are limited before the split, evaluated examples after it."""
    unsplit, limited = view(max_train_examples=30), view(max_train_examples=30, tune_split=0.2)
    tune = limited.validation["tune"]
    assert sorted(rows(limited.train) + rows(tune)) == sorted(rows(unsplit.train))
    shares = Counter(unsplit.train.labels.tolist())
    assert Counter(tune.labels.tolist()) == {label: -(-count // 5) for label, count in shares.items()}

    limits = {"max_train_examples": 30, "max_eval_examples": 3, "tune_split": 0.2}
    search, final = view(**limits), view(**limits, final=True)
    assert len(search.validation["tune"]) == len(final.validation["validation"]) == 3
    assert set(rows(search.validation["tune"])) <= set(rows(tune))
    assert rows(search.train) == rows(final.train) == rows(limited.train) and search.digest == final.digest


def test_only_the_requested_examples_are_tokenized(view: Load, tokenized_sizes: list[int], folder: Path) -> None:
    """They are the same, in the same order, as if the whole splits were tokenized."""
    limits = {"max_train_examples": 30, "max_eval_examples": 3, "tune_split": 0.2}
    views: list[dict[str, Any]] = [limits, limits | {"final": True}]
    limited_views = [view(**values) for values in views]
    assert tokenized_sizes == [30, 3] and len(list((folder / "cache" / "tokens").iterdir())) == 2
    view()
    assert tokenized_sizes == [30, 3, 60, 20]
    for limited, cached in zip(limited_views, [view(**values) for values in views], strict=True):
        assert rows(limited.train) == rows(cached.train) and limited.digest == cached.digest
        for name, split in limited.validation.items():
            assert rows(split) == rows(cached.validation[name])
    assert tokenized_sizes == [30, 3, 60, 20]


def test_splits_reuse_tokenized_examples(view: Load, tokenized_sizes: list[int], folder: Path) -> None:
    view(tune_split=0.2)
    assert tokenized_sizes == [60]  # validation is not tokenized
    view(tune_split=0.2, final=True)
    view(tune_split=0.3)
    view()
    assert tokenized_sizes == [60, 20] and len(list((folder / "cache" / "tokens").iterdir())) == 2


def test_without_pyarrow(view: Load, tokenized_sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    cached = view(tune_split=0.2)
    tokenized_sizes.clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    fresh = view(tune_split=0.2)
    assert tokenized_sizes == [60] and fresh.digest == cached.digest
    assert rows(fresh.train) == rows(cached.train) and rows(fresh.validation["tune"]) == rows(cached.validation["tune"])


def test_a_single_file_is_split_for_validation(view: Load, folder: Path) -> None:
    """Validation is held out first, and is the same with and without a tune split."""
    file = {"data": folder / "data" / "train.jsonl"}
    full, search, final = view(**file), view(**file, tune_split=0.5), view(**file, tune_split=0.5, final=True)
    assert rows(final.validation["validation"]) == rows(full.validation["validation"])
    assert sorted(rows(search.train) + rows(search.validation["tune"])) == sorted(rows(full.train))
    assert len(search.validation["tune"]) == 28  # half of 54, 14 of the 27 of each class


def test_regression(view: Load, folder: Path, model: str) -> None:
    path = folder / "scores.jsonl"
    lines = [json.dumps(row | {"score": i / 4}) for i, row in enumerate(tiny_models.rows(111))]
    path.write_text("\n".join(lines))
    spec = TaskSpec(name="scores", data=path, text=("left",), label="score", tune_split=0.2)
    full, data = load(spec.model_copy(update={"tune_split": 0.0}), model), load(spec, model)
    tune = data.validation["tune"]
    assert tune.labels.dtype == np.float32
    assert sorted([*data.train.labels, *tune.labels]) == sorted(full.train.labels) and len(full.train) == 100
    tenths = np.sort(full.train.labels).reshape(10, 10)
    assert [int(np.isin(tune.labels, tenth).sum()) for tenth in tenths] == [2] * 10


def test_several_validation_splits_are_for_final_runs(folder: Path, model: str) -> None:
    for split, seed in (("train", 0), ("validation_matched", 1), ("validation_mismatched", 2)):
        lines = [
            json.dumps({"premise": row["left"], "hypothesis": row["right"], "label": i % 3})
            for i, row in enumerate(tiny_models.rows(30, seed))
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    spec = TaskSpec(name="mnli", data=folder, tune_split=0.1)
    assert Counter(load(spec, model).validation["tune"].labels.tolist()) == {0: 1, 1: 1, 2: 1}
    final = load(spec.model_copy(update={"final": True}), model)
    assert list(final.validation) == ["validation_matched", "validation_mismatched"]


def test_a_class_that_is_left_too_small(view: Load, tokenized_sizes: list[int]) -> None:
    with pytest.raises(AutorankError, match=r"--tune-split 0.2 .* '[01]' \([01]\)"):
        view(max_train_examples=2, tune_split=0.2)
    assert not tokenized_sizes  # refused before anything is tokenized


def test_the_split_as_json_and_on_the_command_line() -> None:
    task = RunOptions(method="lora", task="demo", tune_split=0.1).task_spec()
    assert (task.tune_split, task.final) == (0.1, False)
    spec = TrainSpec(task=task.model_copy(update={"final": True}), method="lora")
    restored = TrainSpec.model_validate_json(spec.model_dump_json())
    assert restored == spec and restored.model_dump(mode="json") == spec.model_dump(mode="json")
    assert spec != TrainSpec(task=task, method="lora")
    assert TaskSpec.model_validate({"name": "demo"}) == RunOptions(method="lora", task="demo").task_spec()
    with pytest.raises(AutorankError, match=r"tune_split: .*0\.5 \(got 0\.6\)"):
        RunOptions(method="lora", task="demo", tune_split=0.6).task_spec()
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValidationError):
            TaskSpec(name="demo", tune_split=wrong)
