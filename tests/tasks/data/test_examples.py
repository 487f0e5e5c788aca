"""Labels as numbers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.tasks.columns import to_examples
from autorank.tasks.examples import Examples, rows
from autorank.tasks.glue import GLUE
from autorank.tasks.infer_task import infer_task

TEXT = ["a", "b", "c", "d"]


def own(labels: list[object]) -> tuple[str, tuple[str, ...], list[float]]:
    """Kind, class names and labels as numbers, as inferred from the user's labels."""
    columns = {"text": [str(i) for i in range(len(labels))], "label": labels}
    task = infer_task("mine", ("text",), "label", labels, "x.csv")
    return task.kind.name, task.label_names, to_examples(task, columns, "x.csv", train=True).labels.tolist()


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        ([10, 9, 2, 9], ("2", "9", "10"), [2, 1, 0, 1]),
        (["10", "9", "2"], ("2", "9", "10"), [2, 1, 0]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        (["1.5", "nan", "b"], ("1.5", "b", "nan"), [0, 2, 1]),  # one is no number, so all are names
        (["yes ", "yes"], ("yes", "yes "), [1, 0]),
    ],
)
def test_classes_keep_their_names(labels: list[object], names: tuple[str, ...], numbers: list[int]) -> None:
    assert own(labels) == ("classification", names, numbers)


@pytest.mark.parametrize("labels", [[1.5, 2, 3.0], ["1.5", "2", "3"], [1.5, "2", 3]])
def test_a_fraction_makes_it_regression(labels: list[object]) -> None:
    assert own(labels) == ("regression", (), [1.5, 2.0, 3.0])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", None, "", "  ", "b"], ["rows 2, 3, 4", "3 in all", "x.csv", "'label'"]),
        ([1.5, math.nan, math.inf, 2.0], ["rows 2, 3", "2 in all", "finite", "nan"]),
        ([0, 1, math.nan], ["row 3", "finite"]),
        (["1.5", "nan"], ["row 2", "'nan'"]),
        (["a", "a"], ["only one value, a", "--label"]),
        ([2.5, 2.5], ["only one value, 2.5"]),
        ([["a"], ["b"]], ["['a']", "not a valid label"]),
    ],
)
def test_labels_that_are_refused(labels: list[object], words: list[str]) -> None:
    with pytest.raises(AutorankError) as caught:
        own(labels)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], ["0", "1", "1", "0"], [0.0, 1.0, 1.0, 0.0]])
def test_a_named_task_takes_numbers(labels: list[object]) -> None:
    found = to_examples(GLUE["sst2"], {"sentence": TEXT, "label": labels}, "x.csv")
    assert found.labels.tolist() == [0, 1, 1, 0] and found.labels.dtype == np.int64


def test_a_named_task_takes_class_names() -> None:
    labels = ["positive", "negative", "positive", "negative"]
    assert to_examples(GLUE["sst2"], {"sentence": TEXT, "label": labels}, "x.csv").labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([-1, -1, -1, -1], ["'-1'", "test split without labels", "4 in all", "'negative', 'positive'"]),
        ([0, 1, 2, "x"], ["'2', 'x'", "rows 3, 4"]),
    ],
)
def test_labels_that_a_named_task_does_not_know(labels: list[object], words: list[str]) -> None:
    with pytest.raises(AutorankError) as caught:
        to_examples(GLUE["sst2"], {"sentence": TEXT, "label": labels}, "x.csv")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_own_class_names_are_not_taken_for_numbers() -> None:
    task = infer_task("mine", ("text",), "label", ["no", "yes"], "train.csv")
    with pytest.raises(AutorankError, match=r"dev\.csv has labels .* '0', '1' in rows 1, 2"):
        to_examples(task, {"text": ["a", "b"], "label": [0, 1]}, "dev.csv")


def test_empty_text_is_text_and_null_is_not() -> None:
    columns = {"sentence": ["", "b", "", "d"], "label": [0, 1, 0, 1]}
    assert to_examples(GLUE["sst2"], columns, "x.csv").texts == (["", "b", "", "d"],)
    with pytest.raises(AutorankError, match=r"'sentence' of x\.csv has no text in rows 2, 4 \(counted from 1, 2 in"):
        to_examples(GLUE["sst2"], {**columns, "sentence": ["a", None, "c", None]}, "x.csv")
    with pytest.raises(AutorankError, match=r"is not text: rows 1, 2 has 3"):
        to_examples(GLUE["sst2"], {**columns, "sentence": [3, 4, "c", "d"]}, "x.csv")


def test_no_rows() -> None:
    with pytest.raises(AutorankError, match="has no rows"):
        to_examples(GLUE["sst2"], {"sentence": [], "label": []}, "x.csv")


def test_many_rows_are_counted_not_listed() -> None:
    assert rows(range(8)) == "rows 1, 2, 3, 4, 5 and 3 more"


def test_digest_is_of_the_content() -> None:
    labels = np.array([0, 1])
    one = Examples((["ab", "c"],), labels)
    assert one.digest == Examples((("ab", "c"),), labels.copy()).digest
    others = [
        Examples((["a", "bc"],), labels),
        Examples((["ab", "c"],), labels[::-1].copy()),
        Examples((["ab", "c"],), labels.astype(np.float32)),
        Examples((["ab", "c"], ["", ""]), labels),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5
