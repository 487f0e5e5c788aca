"""Labels as numbers, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks import registry
from autorank.tasks.data.columns import to_examples
from autorank.tasks.infer_task import infer_task
from autorank.tasks.named.glue import GLUE
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table, rows

TEXT = ["a", "b", "c", "d"]


def inferred(labels: list[object]) -> tuple[str, tuple[str, ...], list[float]]:
    """Kind, class names and labels as numbers, as inferred from the user's labels."""
    table = Table({"text": [str(i) for i in range(len(labels))], "label": labels}, "x.csv")
    task = infer_task("mine", ("text",), table, "label")
    return task.kind.name, task.label_names, to_examples(task, table, train=True).labels.tolist()


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        ([10, 9, 2, 9], ("2", "9", "10"), [2, 1, 0, 1]),
        (["10", "9", "2"], ("2", "9", "10"), [2, 1, 0]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        (["1.5", "inf", "b"], ("1.5", "inf", "b"), [0, 1, 2]),  # one is not a number, so all are names
        (["yes ", "yes", "no"], ("no", "yes"), [1, 1, 0]),
        (["caf\u00e9", "cafe\u0301", "\u00a0tea"], ("caf\u00e9", "tea"), [0, 0, 1]),
        ([1, 1.0, "1", "01", "+1.0e0", 2], ("1", "2"), [0, 0, 0, 0, 0, 1]),
        ([2**53, 2**53 + 1, f"{2**53 + 1}.0"], ("9007199254740992", "9007199254740993"), [0, 1, 1]),
        (["1e400", "1" + "0" * 400, "-0", "0"], ("0", "1e+400"), [1, 1, 0, 0]),
        (["True", "FALSE", "true"], ("false", "true"), [1, 0, 1]),
        (["01", "01", "A1", "1"], ("01", "A1"), [0, 0, 1, 0]),
    ],
)
def test_classes_keep_their_names(labels: list[object], names: tuple[str, ...], numbers: list[int]) -> None:
    assert inferred(labels) == ("classification", names, numbers)


@pytest.mark.parametrize("labels", [[1.5, 2, 3.0], ["1.5", "2", "3"], [1.5, "2", 3]])
def test_labels_with_fractions_mean_regression(labels: list[object]) -> None:
    assert inferred(labels) == ("regression", (), [1.5, 2.0, 3.0])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", None, "", "  ", "b"], ["rows 2, 3, 4", "3 in all", "x.csv", "'label'"]),
        ([1.5, math.inf, math.inf, 2.0], ["rows 2, 3", "2 in all", "finite", "inf"]),
        ([1.5, 1e39], ["row 2", "finite"]),
        ([0, 1, math.nan], ["no label in row 3"]),
        (["a", "\ud800"], ["row 2", "not a valid label"]),
        (["a", "a"], ["only one value, a", "--label"]),
        ([2.5, 2.5], ["only one value, 2.5"]),
        ([{"a": 1}, "b"], ["{'a': 1}", "not a valid label"]),
    ],
)
def test_labels_that_are_refused(labels: list[object], words: list[str]) -> None:
    with pytest.raises(AutorankError) as caught:
        inferred(labels)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], ["0", "1", "1", "0"], [0.0, 1.0, 1.0, 0.0]])
def test_a_named_task_takes_numbers(labels: list[object]) -> None:
    examples = to_examples(GLUE["sst2"], Table({"sentence": TEXT, "label": labels}, "x.csv"))
    assert examples.labels.tolist() == [0, 1, 1, 0] and examples.labels.dtype == np.int64


def test_a_named_task_takes_class_names() -> None:
    labels = ["positive", "negative", "positive", "negative"]
    assert to_examples(GLUE["sst2"], Table({"sentence": TEXT, "label": labels}, "x.csv")).labels.tolist() == [
        1,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([-1, -1, -1, -1], ["'-1'", "test split without labels", "4 in all", "'negative', 'positive'"]),
        ([0, 1, 2, "x"], ["'2', 'x'", "rows 3, 4"]),
    ],
)
def test_labels_that_a_named_task_does_not_know(labels: list[object], words: list[str]) -> None:
    with pytest.raises(AutorankError) as caught:
        to_examples(GLUE["sst2"], Table({"sentence": TEXT, "label": labels}, "x.csv"))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_class_names_of_own_data_are_not_replaced_by_numbers() -> None:
    task = infer_task("mine", ("text",), Table({"label": ["no", "yes"]}, "train.csv"), "label")
    with pytest.raises(AutorankError, match=r"dev\.csv has labels .* '0', '1' in rows 1, 2"):
        to_examples(task, Table({"text": ["a", "b"], "label": [0, 1]}, "dev.csv"))


def test_empty_text_is_text_and_null_is_not() -> None:
    columns = {"sentence": ["", "b", "", "d"], "label": [0, 1, 0, 1]}
    assert to_examples(GLUE["sst2"], Table(columns, "x.csv")).texts == (["", "b", "", "d"],)
    with pytest.raises(AutorankError, match=r"'sentence' of x\.csv has no text in rows 2, 4 \(counted from 1, 2 in"):
        to_examples(GLUE["sst2"], Table({**columns, "sentence": ["a", None, "c", None]}, "x.csv"))
    with pytest.raises(AutorankError, match=r"is not text: '3' in rows 1, 2"):
        to_examples(GLUE["sst2"], Table({**columns, "sentence": [3, 4, "c", "d"]}, "x.csv"))


def test_half_characters_are_refused() -> None:
    with pytest.raises(AutorankError, match="an unpaired surrogate in row 2"):
        to_examples(GLUE["sst2"], Table({"sentence": ["a", "b\ud83d", "c", "d"], "label": [0, 1, 0, 1]}, "x.csv"))


def test_missing_values_of_csv_are_not_classes_and_texts_of_other_formats_are() -> None:
    columns = {"text": TEXT, "label": ["None", "a", "NaN", "NA"]}
    with pytest.raises(AutorankError, match=r"no label in rows 1, 3, 4 .* 'NA' and 'NaN' and 'None' means a missing"):
        infer_task("mine", ("text",), Table(columns, "x.csv", typed=False), "label")
    assert infer_task("mine", ("text",), Table(columns, "x.jsonl"), "label").label_names == ("NA", "NaN", "None", "a")


def test_label_type_given_by_the_user() -> None:
    table = Table({"text": TEXT, "label": [20, 30, 82, 20]}, "x.csv")
    assert infer_task("mine", ("text",), table, "label").label_names == ("20", "30", "82")
    number = infer_task("mine", ("text",), table, "label", "number")
    assert to_examples(number, table).labels.tolist() == [20, 30, 82, 20] and number.metrics[0] == "pearson_spearman"
    fractions = Table({"text": TEXT, "label": [0.5, "1", 1.0, 0.5]}, "x.csv")
    assert infer_task("mine", ("text",), fractions, "label", "class").label_names == ("0.5", "1")
    with pytest.raises(AutorankError, match=r"finite numbers, but it has 'a' in rows 1, 2, 3, 4"):
        to_examples(number, Table({"text": TEXT, "label": list("abcd")}, "x.csv"))


def test_merged_labels_are_noted() -> None:
    table = Table({"text": TEXT, "label": ["yes ", "yes", "yes", "no"]}, "x.csv")
    (note,) = to_examples(infer_task("mine", ("text",), table, "label"), table).notes
    assert "'yes ' (1) as 'yes'" in note and "'no'" not in note
    numbers = Table({"text": TEXT, "label": ["1", "1.0", "2", "2"]}, "x.csv", typed=False)
    assert to_examples(infer_task("mine", ("text",), numbers, "label"), numbers).notes == ()
    texts = Table({"text": TEXT, "label": ["1", "1.0", "2", "2"]}, "x.jsonl")
    assert "Read '1.0' (1) as '1'." in to_examples(infer_task("mine", ("text",), texts, "label"), texts).notes[0]


def test_labels_are_described_in_a_line() -> None:
    def line(labels: list[object]) -> str:
        table = Table({"text": [str(i) for i in range(len(labels))], "label": labels}, "x.csv")
        task = infer_task("mine", ("text",), table, "label")
        return task.kind.describe(task, to_examples(task, table))

    assert line(["neg"] * 8 + ["pos"] * 7 + ["neutral"] * 5) == "label: 3 classes: neg 40%, neutral 25%, pos 35%"
    assert line(["rare", *["usual"] * 999]) == "label: 2 classes: rare 0.10%, usual 100%"
    assert line([20.5, 82, 30]) == "label: numbers from 20.5 to 82"
    description = line([*range(20), 19])
    assert description.startswith("label: 20 classes: '19' 10%, '0' 5%") and "and 12 more" in description
    assert "--label-type number" in description
    sst2 = to_examples(GLUE["sst2"], Table({"sentence": TEXT, "label": [0, 1, 1, 0]}, "x.csv"))
    description = GLUE["sst2"].kind.describe(GLUE["sst2"], sst2)
    assert description == "label: 2 classes: negative 50%, positive 50%"


def test_no_rows() -> None:
    with pytest.raises(AutorankError, match="has no rows"):
        to_examples(GLUE["sst2"], Table({"sentence": [], "label": []}, "x.csv"))


def test_many_rows_are_counted_not_listed() -> None:
    assert rows(range(8)) == "rows 1, 2, 3, 4, 5 and 3 more"


def test_rows_of_several_files_are_counted_in_each() -> None:
    table = Table({"a": [1] * 5}, "x", files=(("a.csv", 2), ("b.csv", 3)))
    assert table.rows([1, 2, 4]) == "row 2 of a.csv, rows 1, 3 of b.csv (counted from 1, 3 in all)"


def test_digest_is_of_the_content() -> None:
    labels = np.array([0, 1])
    examples = Examples((["ab", "c"],), labels)
    assert examples.digest == Examples((("ab", "c"),), labels.copy()).digest
    variants = [
        Examples((["a", "bc"],), labels),
        Examples((["ab", "c"],), labels[::-1].copy()),
        Examples((["ab", "c"],), labels.astype(np.float32)),
        Examples((["ab", "c"], ["", ""]), labels),
    ]
    assert len({examples.digest, *(variant.digest for variant in variants)}) == 5


def test_a_metric_of_the_other_kind_names_the_option(tmp_path: Path) -> None:
    for labels, metric, option in ((["1", "2"], "pearson", "number"), (["1.5", "2"], "accuracy", "class")):
        (tmp_path / "x.csv").write_text(
            "text,label\n" + "".join(f"a{i},{label}\n" for i, label in enumerate(labels * 9))
        )
        spec = TaskSpec(name="x", data=tmp_path / "x.csv", text=("text",), label="label", metric=metric)
        with pytest.raises(AutorankError, match=f"--metric {metric} is not a metric of .* Add --label-type {option}"):
            registry.read(spec)
        assert registry.read(spec.model_copy(update={"label_type": option}))[0].metrics[0] == metric


def test_decimal_commas_are_named() -> None:
    table = Table({"text": TEXT, "label": ["1,5", "2", "3", "4"]}, "x.csv", typed=False)
    task = infer_task("mine", ("text",), table, "label", "number")
    with pytest.raises(AutorankError, match=r"'1,5' in row 1 .* Write decimals with a point"):
        to_examples(task, table)
