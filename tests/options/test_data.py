"""Values of `--data`: paths become absolute, addresses and datasets on the Hub do not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autorank.errors import AutorankError
from autorank.options.data import DataOptions
from autorank.tasks.reading.location import on_hub


@pytest.mark.parametrize(
    ("data", "stored", "name"),
    [
        ("reviews.csv", "{here}/reviews.csv", "reviews"),
        ("./a/b", "{here}/a/b", "b"),
        ("a/reviews.csv.gz", "{here}/a/reviews.csv.gz", "reviews"),
        ("a/*.csv", "{here}/a/*.csv", "a"),
        ("~/x.jsonl", "{home}/x.jsonl", "x"),
        ("owner/name", "owner/name", "name"),
        ("owner/name:config", "owner/name:config", "name-config"),
        ("present/folder", "{here}/present/folder", "folder"),  # a directory with the form of a name on the Hub
        ("s3://bucket/reviews/train.parquet", "s3://bucket/reviews/train.parquet", "train"),
        ("gs://bucket/reviews", "gs://bucket/reviews", "reviews"),
    ],
)
def test_forms_of_data(data: str, stored: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "present" / "folder").mkdir(parents=True)
    spec = DataOptions(data=data, text="text", label="label").task_spec()
    assert spec.data == stored.format(here=tmp_path, home=tmp_path / "home")
    assert spec.name == name


@pytest.mark.parametrize("data", ["x.csv", "a/b.parquet", "a/b/c", "/a/b", "./a/b", "a/b.csv.gz", "name", "s3://a/b"])
def test_paths_and_addresses_are_not_on_the_hub(data: str) -> None:
    assert on_hub(data) is None


@pytest.mark.usefixtures("own_cache")
def test_python_data_keep_the_columns_of_tools_and_system_messages() -> None:
    frame = pd.DataFrame({"p": ["q"], "c": ["a"], "tools": ["t"], "unused": [1]})
    path = DataOptions(data=frame, prompt="p", completion="c").data_path()
    assert path is not None and Path(path).read_text() == '{"p": "q", "c": "a", "tools": "t"}\n'


def test_options_of_own_data_reach_the_spec() -> None:
    options = DataOptions(
        data="owner/name", text="a.b", label="c", label_type="number", train_split="train[:80%]", eval_split="test"
    )
    spec = options.task_spec()
    assert (spec.label_type, spec.train_split, spec.eval_split) == ("number", "train[:80%]", "test")
    assert spec.columns == ("a.b", "c")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "stsb", "text": "a,b", "label": "c"}, "--task stsb cannot be combined with --text, --label: "),
        ({"task": "nosuchtask"}, "Unknown task 'nosuchtask'"),
        ({"text": "a", "label": "b,b"}, "--label b,b names a column twice"),
        ({"text": "a"}, "--text a needs --label"),
        ({"label": "a"}, "--text takes one or two text columns"),
        ({"prompt": "a"}, "--completion is missing"),
        ({"prompt": "a", "completion": "b", "text": "c"}, "cannot be combined with --text and --label"),
    ],
)
def test_columns_that_do_not_choose_a_task(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AutorankError, match=words):
        DataOptions(data="x.csv", **options).task_spec()
    if "task" not in options:
        with pytest.raises(AutorankError):
            DataOptions(**options).task_spec()
