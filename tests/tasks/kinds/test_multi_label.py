"""Multi-label classification: forms of labels, metrics against their formulas, a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autorank
from autorank.errors import AutorankError
from autorank.modeling import adapter_file
from autorank.spec import TaskSpec
from autorank.tasks import load, registry
from autorank.tasks.kinds.multi_label import label_lists
from autorank.tasks.metrics import multi_label, resampling
from autorank.tasks.splits.table import Table
from tests import tiny_models

ROWS = [["news", "sport"], [], ["sport"], ["news"], ["art", "news"]] * 6
TEXT_COLUMNS = {"text": [f"word number {i}" for i in range(len(ROWS))]}


def write(folder: Path, form: str) -> tuple[Path, str]:
    """Write the same labels in a file of this form; returns its path and the label option."""
    import pandas as pd

    frame = pd.DataFrame(TEXT_COLUMNS)
    columns = ["art", "news", "sport"]
    if form == "columns":
        for name in columns:
            frame[name] = [int(name in row) for row in ROWS]
        frame.to_csv(folder / "x.csv", index=False)
        return folder / "x.csv", ",".join(columns)
    frame["tags"] = [
        json.dumps(row) if form == "json.csv" else str(row) if form == "python.csv" else row for row in ROWS
    ]
    if form == "parquet":
        frame.to_parquet(folder / "x.parquet")
        return folder / "x.parquet", "tags"
    if form == "jsonl":
        frame.to_json(folder / "x.jsonl", orient="records", lines=True)
        return folder / "x.jsonl", "tags"
    frame.to_csv(folder / "x.csv", index=False)
    return folder / "x.csv", "tags"


@pytest.mark.parametrize("form", ["jsonl", "parquet", "json.csv", "python.csv", "columns"])
def test_every_form_gives_the_same_examples(form: str, tmp_path: Path) -> None:
    data, label = write(tmp_path, form)
    columns = tuple(label.split(",")) if "," in label else ()
    task, train, validation = registry.read(
        TaskSpec(name="x", data=data, text=("text",), label=label, label_columns=columns)
    )
    assert (task.kind.name, task.label_names, task.outputs) == (
        "multi-label classification", ("art", "news", "sport"), 3,
    )  # fmt: skip
    texts = [*train.texts[0], *validation["validation"].texts[0]]
    labels = np.concatenate([train.labels, validation["validation"].labels])
    for text, row in zip(texts, labels, strict=True):
        expected = ROWS[TEXT_COLUMNS["text"].index(text)]
        assert [name for name, flag in zip(task.label_names, row, strict=True) if flag] == expected
    description = task.kind.describe(task, train)
    assert description.startswith(f"{label}: any of 3 classes, 1.") and "news " in description


def test_texts_with_quotes_are_lists() -> None:
    lists = [['["a", "b"]', "['a', ', ', 'b']", """['it', "x' 'y"]""", "[]"], ["['a''b']", "['a'\n 'b']"]]
    table = Table({"tags": lists[0]}, "x")
    assert label_lists(table, "tags") == [["a", "b"], ["a", ", ", "b"], ["it", "x' 'y"], []]
    for value in lists[1]:
        with pytest.raises(AutorankError, match="with commas between them"):
            label_lists(Table({"tags": [value]}, "x"), "tags")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a"], "b", ["a"]], r"'b' in rows 2, 5.* is not a list"),
        ([["a"], [None], ["a"]], r"\[None\] in rows 2"),
        ([[], [], []], "have the same labels|are empty"),
        ([["a"], ["a"], ["a"]], "have the same labels"),
        ([[0, 1, 0], [1.0, 1, 0], [True, 0, 0]], "has vectors of 3 zeros and ones"),
        ([["B-PER", "O", "O"], ["O"]], r"repeats labels in rows 1, 3, .*'O', 'O'\]\. Tags of tokens \(NER\) are not"),
        (["['a' 'b']", "['a']", "[]"], r"\['a' 'b'\]\" in rows 1, 4.* with commas between them"),
    ],
)
def test_wrong_labels_name_their_rows(rows: list[Any], message: str, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"t{i}", "tags": row}) for i, row in enumerate(rows * 5)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(AutorankError, match=message):
        registry.read(TaskSpec(name="x", data=tmp_path / "x.jsonl", text=("text",), label="tags"))


def test_the_text_nan_is_a_label_except_in_csv() -> None:
    assert label_lists(Table({"tags": [["nan"]]}, "x"), "tags") == [["nan"]]
    with pytest.raises(AutorankError, match=r"in row 1.* is not a list of texts or numbers"):
        label_lists(Table({"tags": ['["nan"]']}, "x.csv", typed=False), "tags")


def test_columns_that_do_not_hold_zeros_and_ones(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,a,b\none,0,1\ntwo,1,2\n")
    with pytest.raises(AutorankError, match=r"column 'b' of .* has .*2.* in row 2"):
        registry.read(
            TaskSpec(name="x", data=tmp_path / "x.csv", text=("text",), label="a,b", label_columns=("a", "b"))
        )


def test_metrics_and_their_resamples() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 3)), (rng.random((40, 3)) < 0.4).astype(np.float32)
    scores = multi_label.compute(multi_label.METRICS, logits, labels)
    true_positives = (logits > 0) & (labels == 1)
    class_f1 = 2 * true_positives.sum(0) / ((logits > 0).sum(0) + labels.sum(0))
    expected = {
        "micro_f1": 2 * true_positives.sum() / ((logits > 0).sum() + labels.sum()),
        "macro_f1": class_f1.mean(),
        "subset_accuracy": ((logits > 0) == (labels == 1)).all(1).mean(),
    }
    assert dict(scores) == pytest.approx(expected, abs=1e-6)
    samples = rng.integers(40, size=(3, 40))
    weights = np.stack([np.bincount(rows, minlength=40) for rows in samples]).astype(np.float32)
    for name in multi_label.METRICS:
        outcomes = multi_label.compute([name], logits, labels).outcomes
        assert outcomes is not None
        sample_scores = [multi_label.compute([name], logits[rows], labels[rows])[name] for rows in samples]
        assert resampling.resampled([outcomes], weights)[:, 0] == pytest.approx(sample_scores, abs=1e-6)
    assert np.isnan(multi_label.compute(["micro_f1"], logits * np.nan, labels)["micro_f1"])


@pytest.mark.usefixtures("own_cache")
def test_trained_and_exported(tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    data, label = write(tmp_path, "columns")
    model = tiny_models.model("bert", tmp_path / "bert")
    options: dict[str, Any] = {"data": data, "text": "text", "label": label, "model": model}
    result = autorank.train(
        method="lora-drop", **options, steps=4, eval_every=2, batch_size=8, to=tmp_path / "out", quiet=True
    )
    assert list(result.best.metrics) == list(multi_label.METRICS)
    assert adapter_file.origin is not None
    peft_model = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "out", num_labels=3)
    assert peft_model.config.num_labels == 3
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'problem_type="multi_label_classification"' in card
    task_data = load(
        TaskSpec(name="x", data=data, text=("text",), label=label, label_columns=("art", "news", "sport")), model
    )
    assert task_data.train.labels.shape[1:] == (3,)


def test_labels_that_are_one_class_are_named(tmp_path: Path) -> None:
    rows = [["a", "b"], ["a "], ["a"], []] * 5
    lines = [json.dumps({"text": f"t{i}", "tags": row}) for i, row in enumerate(rows)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    task, train, _ = registry.read(TaskSpec(name="x", data=tmp_path / "x.jsonl", text=("text",), label="tags"))
    assert task.label_names == ("a", "b") and len(train.notes) == 1 and "Read 'a ' (5) as 'a'" in train.notes[0]
