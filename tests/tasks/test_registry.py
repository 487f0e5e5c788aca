"""Where a task comes from, by its spec."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import TASKS, base_model, registry, resolve
from autorank.tasks.named.generation import GENERATION
from tests import tiny_models


def test_all_named_tasks_are_registered() -> None:
    glue = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"}
    assert set(TASKS) == glue | {"squad_v1", "squad_v2", "demo"} | set(GENERATION)
    assert resolve(TaskSpec(name="mrpc")) is TASKS["mrpc"]


def test_metrics_of_a_kind_may_be_the_score() -> None:
    assert resolve(TaskSpec(name="mrpc", metric="balanced_accuracy")).metrics == ("balanced_accuracy", "accuracy", "f1")
    assert resolve(TaskSpec(name="mrpc", metric="recall:equivalent")).metrics[0] == "recall:equivalent"
    assert resolve(TaskSpec(name="squad_v2", metric="exact_match")).metrics == ("exact_match", "f1")
    for metric, words in (
        ("recall:other", "Unknown class of mrpc 'other'.*Available: equivalent, not_equivalent"),
        ("recall", "Unknown class"),
        ("bleu", r"Unknown metric of mrpc 'bleu'.*recall:CLASS"),
    ):
        with pytest.raises(AutorankError, match=words):
            resolve(TaskSpec(name="mrpc", metric=metric))
    with pytest.raises(AutorankError, match="Unknown metric of mnli 'f1'"):  # F1 of class 1, for two classes
        resolve(TaskSpec(name="mnli", metric="f1"))


def test_the_base_model_is_known_without_the_data() -> None:
    """The data may exist only on another machine, which shares them in a search."""
    fields: dict[str, Any] = {"name": "mine", "data": Path("/nowhere/x.jsonl")}
    assert base_model(TaskSpec(**fields, text=("a",), label="b")) == "FacebookAI/roberta-base"
    assert base_model(TaskSpec(**fields, prompt="a", completion="b")) == "Qwen/Qwen3-0.6B-Base"
    assert base_model(TaskSpec(**fields, text=("a",), label="b"), "mine") == "mine"
    assert base_model(TaskSpec(name="squad_v2")) == "microsoft/deberta-v3-base"
    with pytest.raises(AutorankError, match="--completion is missing"):
        base_model(TaskSpec(**fields, prompt="a"))


def test_importing_tasks_is_cheap() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow', 'torchmetrics', 'ray', 'mlflow'}"
    script = f"import autorank.tasks, sys; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_demo_needs_nothing() -> None:
    task, train, validation = registry.read(TaskSpec(name="demo"))
    assert task is TASKS["demo"]
    assert len(train) > len(validation["validation"]) > 0
    assert len(train.texts) == len(task.text)


def test_own_data_knows_its_classes(tmp_path: Path) -> None:
    path = tiny_models.pairs_file(tmp_path / "x.jsonl", 40)
    spec = TaskSpec(name="mine", data=path, text=("left", "right"), label="label")
    task = resolve(spec)
    assert (task.name, task.kind.name, task.label_names, task.outputs) == ("mine", "classification", ("0", "1"), 2)
    assert (task.text, task.label) == (("left", "right"), "label")
    assert len(registry.read(spec)[1]) == 36


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "mrcp"}, ["Unknown task 'mrcp'", "Did you mean 'mrpc'"]),
        ({"name": "mine", "text": ("a",), "data": "x.csv"}, ["--text a needs --label"]),
        ({"name": "mine", "text": ("a",), "label": "b"}, ["--data FILE"]),
        ({"name": "mine", "label": "b", "data": "x.csv"}, ["--text", "got none"]),
        ({"name": "mine", "text": ("a", "b", "c"), "label": "d", "data": "x.csv"}, ["one or two text columns"]),
        ({"name": "mine", "text": ("a", "b"), "label": "b", "data": "x.csv"}, ["both --text and --label"]),
        ({"name": "mine", "text": ("a", "a"), "label": "b", "data": "x.csv"}, ["--text a,a names a column twice"]),
        (
            {"name": "mine", "text": ("a",), "label": "b,b", "label_columns": ("b", "b"), "data": "x.csv"},
            ["--label b,b names a column twice"],
        ),
        ({"name": "mine", "prompt": ("a", "a"), "completion": "b", "data": "x.csv"}, ["--prompt a,a names"]),
    ],
)
def test_specs_that_do_not_go_together(spec: dict[str, Any], words: list[str]) -> None:
    for call in (resolve, registry.read):
        with pytest.raises(AutorankError) as caught:
            call(TaskSpec(**spec))
        assert all(word in str(caught.value) for word in words), str(caught.value)
