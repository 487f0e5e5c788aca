"""The user's own metrics: from a file, a function or an entry point; which are refused; and trainings with them."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autorank
from autorank.errors import AutorankError
from autorank.options.calls import TrainCall
from autorank.spec import TaskSpec
from autorank.tasks import own_metric, resolve
from autorank.tasks.own_metric import OwnMetric, parse
from tests import tiny_language_models, tiny_models

FILE = """
from helper import count

def share(predictions, references):
    return count(predictions, references) / len(predictions)
share.higher_is_better = True

def errors(predictions, references):
    return 3
errors.higher_is_better = False

def silent(predictions, references):
    return 1.0

def broken(predictions, references):
    return predictions["x"]
broken.higher_is_better = True

def nothing(predictions, references):
    pass
nothing.higher_is_better = True

def lonely(predictions):
    return 1
lonely.higher_is_better = True
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("def count(a, b):\n    return sum(x == y for x, y in zip(a, b))\n")
    path = tmp_path / "metrics.py"
    path.write_text(FILE)
    return path


def parsed_metric(metric: str | Callable[..., float]) -> OwnMetric:
    fields = parse(metric)
    return OwnMetric(str(fields["metric"]), fields["metric_source"] or "")


def test_a_function_in_a_file(file: Path) -> None:
    metric = parsed_metric(f"{file}:share")
    assert metric.names == ("share",) and metric.scores(["a", "b"], ["a", "c"]) == {"share": 0.5}
    assert metric.scores_of_texts(["a", "b"], [["a", "x"], []]) == {"share": pytest.approx(1 / 3)}
    assert pickle.loads(pickle.dumps(metric)) == metric


def test_lower_is_better(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = parsed_metric(f"{file}:errors")
    assert metric.names == ("errors_score", "errors")
    assert metric.scores(["a"], ["b"]) == {"errors_score": 0.25, "errors": 3.0}
    values = [-2.0, -0.5, 0.0, 0.5, 8.0]
    for value in values:
        monkeypatch.setattr(metric._function, "__code__", (lambda predictions, references, value=value: value).__code__)
        monkeypatch.setattr(metric._function, "__defaults__", (value,))
        values[values.index(value)] = metric.scores([], [])["errors_score"]
    assert values == sorted(values, reverse=True) and len(set(values)) == 5


def test_a_python_function_works_in_other_processes() -> None:
    offset = 0.25

    def shifted(predictions: list[str], references: list[str]) -> float:
        return offset + len(predictions) / 100

    shifted.higher_is_better = True  # type: ignore[attr-defined]
    metric = parsed_metric(shifted)
    assert metric.name == "shifted" and metric.source.startswith("pickle:")
    assert parse(shifted) == parse(shifted)
    code = (
        "import json, sys; from autorank.tasks.own_metric import OwnMetric; "
        "print(json.dumps(OwnMetric(*json.load(sys.stdin)).scores(['a'], ['b'])))"
    )
    root = str(Path(autorank.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([metric.target, metric.source]), capture_output=True, text=True,
        check=True, env={"PYTHONPATH": root}, cwd="/",
    )  # fmt: skip
    assert json.loads(result.stdout) == {"shifted": 0.26}


def test_a_metric_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("length", "tests.tasks.packaged_metric:length", own_metric.GROUP)
    entry_points = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points",
        lambda **params: [point] if params.get("group") == own_metric.GROUP and params.get("name", "length") == "length"
        else entry_points(**params),
    )  # fmt: skip
    task = resolve(TaskSpec(name="mrpc", metric="length"))
    assert task.metrics == ("length", "accuracy", "f1") and task.own_metric == OwnMetric("length")
    assert task.own_metric.scores(["ab", "c"], ["x", "y"]) == {"length": 1.5}
    with pytest.raises(AutorankError, match=r"Did you mean 'length'\? Available: FILE.py:FUNCTION, accuracy, "):
        resolve(TaskSpec(name="mrpc", metric="lengths"))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("{file}", "names no function. Write it as FILE.py:FUNCTION"),
        ("{file}:shares", "Unknown function of .*'shares'. Did you mean 'share'"),
        ("/nowhere/x.py:f", "/nowhere/x.py cannot be read"),
        ("{file}:silent", r"silent.higher_is_better = True \(or False\)"),
        ("{file}:lonely", "not a function of predictions and references"),
        ("{file}:count", "higher_is_better"),
    ],
)
def test_invalid_metrics_are_refused_before_training(metric: str, words: str, file: Path) -> None:
    with pytest.raises(AutorankError, match=words):
        parse(metric.format(file=file))


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(AutorankError, match=r"x.py cannot be imported: ModuleNotFoundError"):
        parse(f"{tmp_path}/x.py:f")


def test_a_changed_file_is_a_different_metric(file: Path) -> None:
    before = parsed_metric(f"{file}:share")
    file.write_text(FILE + "\n# changed\n")
    assert parsed_metric(f"{file}:share") != before
    own_metric._load.cache_clear()
    with pytest.raises(AutorankError, match="has changed since the search began"):
        before.scores(["a"], ["a"])


@pytest.mark.parametrize(("name", "words"), [("broken", "failed: TypeError.*line"), ("nothing", "returned None")])
def test_a_failing_metric_is_reported_in_one_message(name: str, words: str, file: Path) -> None:
    with pytest.raises(AutorankError, match=f"{file}:{name}' {words}"):
        parsed_metric(f"{file}:{name}").scores(["a"], ["a"])


def checked_accuracy(predictions: list[Any], references: list[Any]) -> float:
    assert len(predictions) == len(references) > 0
    assert {type(value) for value in [*predictions, *references]} == {type(references[0])}
    assert set(predictions) <= {"yes", "no"} if references[0] in ("yes", "no") else isinstance(references[0], float)
    return sum(a == b for a, b in zip(predictions, references, strict=True)) / len(references)


checked_accuracy.higher_is_better = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("labels", [["yes", "no"], [0.5, 1.25]])
def test_training_with_an_own_metric(labels: list[Any], tmp_path: Path) -> None:
    """Classes are given by their names, numbers as floats; the task's own metrics are computed too."""
    rows = [{"t": f"w{i % 50}", "l": labels[i % 2]} for i in range(40)]
    result = autorank.train(
        method="lora", data=tiny_language_models.write(tmp_path / "x.jsonl", rows), text="t", label="l",
        metric=checked_accuracy, model=tiny_models.model("bert", tmp_path / "bert"), steps=2, precision="fp32",
    )  # fmt: skip
    metrics = result.evaluations[-1].metrics
    assert next(iter(metrics)) == "checked_accuracy" and result.evaluations[-1].score == metrics["checked_accuracy"]
    assert set(metrics) == {"checked_accuracy", "accuracy", "matthews"} if labels[0] == "yes" else len(metrics) == 4
    if labels[0] == "yes":
        assert metrics["checked_accuracy"] == pytest.approx(metrics["accuracy"])


@pytest.mark.usefixtures("own_cache")
def test_training_on_texts_with_an_own_metric(file: Path, tmp_path: Path) -> None:
    result = autorank.train(
        method="lora", data=tiny_language_models.data(tmp_path / "data"), prompt="asked", completion="told",
        metric=f"{file}:share", model=tiny_language_models.model("llama", tmp_path / "llama"), precision="fp32",
        steps=40, set={"learning_rate": 1e-2},
    )  # fmt: skip
    metrics = result.evaluations[-1].metrics
    assert list(metrics) == ["share", "rougeL", "exact_match", "bleu"]
    assert metrics["share"] == pytest.approx(metrics["exact_match"])


def test_the_spec_holds_path_name_and_hash_of_the_metric(file: Path) -> None:
    call = TrainCall(method="lora", data="x.csv", text="a", label="b", metric=f"{file}:share")
    spec = call.task_spec()
    assert spec.metric == f"{file}:share" and str(spec.metric_source).startswith("sha256:")
    assert TaskSpec(**json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10**400, "too large for a float"),
        (float("nan"), "returned nan"),
    ],
)
def test_values_that_cannot_be_scores(value: float, words: str) -> None:
    def constant(predictions: list[str], references: list[str]) -> float:
        return value

    constant.higher_is_better = True  # type: ignore[attr-defined]
    with pytest.raises(AutorankError, match=words):
        parsed_metric(constant).scores(["a"], ["a"])


def test_a_metric_that_exits(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(AutorankError, match=r"x\.py cannot be imported: SystemExit: 3"):
        parse(f"{tmp_path}/x.py:f")
    (tmp_path / "y.py").write_text("def f(a, b):\n    raise SystemExit(4)\nf.higher_is_better = True\n")
    with pytest.raises(AutorankError, match=r"y\.py:f' failed: SystemExit: 4"):
        parsed_metric(f"{tmp_path}/y.py:f").scores(["a"], ["a"])
