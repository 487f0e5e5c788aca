"""DataFrames and datasets passed from Python, and the files in which they are stored."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import autorank
from autorank.errors import AutorankError
from autorank.options.calls import TrainCall
from autorank.options.data_object import DataObject
from autorank.spec import TaskSpec
from autorank.tasks import registry
from autorank.tasks.reading.file_set import find_files
from autorank.tasks.reading.python_objects import store

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("own_cache")


def read(data: Any, *names: str) -> dict[str, list[Any]]:
    table = find_files(store(data, names)).read("train", names)
    return {name: list(values) for name, values in table.columns.items()}


def test_values_of_a_frame() -> None:
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None, "ü"], index=[5, 6, 7]),
            "short": np.array([0.1, np.nan, 2], np.float32),
            "whole": pd.array([2**60, pd.NA, 3], dtype="Int64"),
            "kind": pd.Categorical(["x", None, "y"]),
            "mixed": [1, "1", True],
            "set": [{"b", "a"}, frozenset({1}), set()],
            "exact": [Decimal("0.10"), Decimal("NaN"), None],
            "nested": [{"en": "a", "list": [1, np.int64(2)]}, None, {}],
            "when": pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
            "took": pd.to_timedelta([1, None, 2], unit="s").as_unit("s"),
        }
    )
    names = ("text", "short", "whole", "kind", "mixed", "set", "exact", "nested.en", "nested.list.1", "when", "took")
    assert read(frame, *names) == {
        "text": ["a", None, "ü"],
        "short": [0.1, None, 2.0],
        "whole": [2**60, None, 3],
        "kind": ["x", None, "y"],
        "mixed": [1, "1", True],
        "set": [["a", "b"], [1], []],
        "exact": ["0.10", None, None],
        "nested.en": ["a", None, None],
        "nested.list.1": [2, None, None],
        "when": [{"unsupported": "datetime64"}, None, {"unsupported": "datetime64"}],
        "took": [{"unsupported": "timedelta64"}, None, {"unsupported": "timedelta64"}],
    }


def test_splits_and_class_names_of_datasets() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    dataset = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert read(dataset, "text", "label") == {"text": ["a", "b"], "label": ["yes", "no"]}
    path = store(datasets.DatasetDict({"train": dataset, "validation": dataset.select([1])}))
    assert find_files(path).splits == ["train", "validation"]
    assert find_files(path).read("validation", ("label",)).columns == {"label": ["no"]}


def test_equal_data_share_a_path_and_different_data_do_not() -> None:
    frame = pd.DataFrame({"text": ["a"], "label": [1], "unused": [object()]})
    assert store(frame, ["text", "label"]) == store(frame.copy(), ["text", "label"])
    assert store(frame, ["text", "label"]) != store(frame.assign(label=2), ["text", "label"])


def test_duplicates_are_refused_if_they_are_read() -> None:
    frame = pd.DataFrame([["a", 1, "b"]], columns=["text", "label", "text"])
    with pytest.raises(AutorankError, match="several columns named 'text'"):
        store(frame, ["text", "label"])
    assert read(frame, "label") == {"label": [1]}


def test_options_take_objects() -> None:
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(20)], "label": ["a", "b"] * 10})
    assert isinstance(frame, DataObject) and not isinstance({}, DataObject)
    spec = TrainCall(method="lora", data=frame, text="text", label="label").spec().task
    assert (spec.name, Path(str(spec.data)).name) == ("dataframe", "dataframe.jsonl")
    assert registry.read(spec)[0].label_names == ("a", "b")
    with pytest.raises(AutorankError, match=r"Column 'text' of .* has no text in rows 2, 4"):
        missing = TrainCall(method="lora", data=frame.assign(text=["t", None] * 10), text="text", label="label")
        registry.read(missing.spec().task)
    with pytest.raises(AutorankError, match="data=3: expected a string or a path or a pandas DataFrame"):
        autorank.train(method="lora", data=3, text="text", label="label")


def test_a_named_task_takes_objects() -> None:
    rows = {"sentence": ["a", "b"], "label": [0, 1], "idx": [0, 1]}
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "validation")})
    task, train, validation = registry.read(TaskSpec(name="sst2", data=store(splits)))
    assert train.labels.tolist() == validation["validation"].labels.tolist() == [0, 1] and task.name == "sst2"


def test_misspelled_columns_are_named_before_anything_is_written(own_cache: Path) -> None:
    frame = pd.DataFrame({"text": ["a"], "label": [1], "other": [2]})
    for data in (frame, datasets.Dataset.from_pandas(frame)):
        with pytest.raises(AutorankError, match=r"'lable'. Did you mean 'label'\? Available: label, other, text"):
            store(data, ["text", "lable"])
        with pytest.raises(AutorankError, match=r"'txt'. Did you mean 'text'.*'lable'. Did you mean 'label'"):
            store(data, ["txt", "lable"])
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_pandas(frame)})
    splits["test"] = splits["train"].remove_columns("label")  # an unused split may lack a column
    assert find_files(store(splits, ["text", "label"])).read("train", ("label",)).columns == {"label": [1]}


def test_splits_of_a_dict_without_the_usual_words() -> None:
    part = datasets.Dataset.from_dict({"text": ["a", "b"] * 10, "label": [0, 1] * 10})
    path = store(datasets.DatasetDict(foo=part, bar=part), ["text", "label"])
    spec = TaskSpec(name="x", data=path, text=("text",), label="label")
    with pytest.raises(AutorankError, match=r"has no training split\. Available: bar, foo\. Choose one with"):
        registry.read(spec)
    _, train, validation = registry.read(spec.model_copy(update={"train_split": "foo", "eval_split": "bar"}))
    assert len(train) == len(validation["validation"]) == 20


def test_values_nested_too_deeply() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(AutorankError, match="nested too deeply"):
        store(pd.DataFrame({"text": [cyclic]}))
