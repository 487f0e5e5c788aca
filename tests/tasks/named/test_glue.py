"""The eight GLUE tasks, as defined by the GLUE paper and the published scripts."""

from __future__ import annotations

import pytest

from autorank.tasks.named.glue import GLUE

# columns, classes (0: regression), score; from the GLUE paper's table 1 and nyu-mll/glue
EXPECTED = {
    "cola": (("sentence",), 2, "matthews"),
    "sst2": (("sentence",), 2, "accuracy"),
    "mrpc": (("sentence1", "sentence2"), 2, "accuracy"),
    "stsb": (("sentence1", "sentence2"), 0, "pearson_spearman"),
    "qqp": (("question1", "question2"), 2, "accuracy"),
    "mnli": (("premise", "hypothesis"), 3, "accuracy"),
    "qnli": (("question", "sentence"), 2, "accuracy"),
    "rte": (("sentence1", "sentence2"), 2, "accuracy"),
}


def test_all_eight_tasks_are_defined() -> None:
    assert set(GLUE) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_definition(name: str) -> None:
    task = GLUE[name]
    assert (task.text, len(task.label_names), task.metrics[0]) == EXPECTED[name]
    assert task.outputs == (EXPECTED[name][1] or 1)
    assert task.kind.name == ("classification" if task.label_names else "regression")
    assert task.hub == ("nyu-mll/glue", name)
    assert task.max_length == 512 and task.model == "FacebookAI/roberta-base"


def test_training_defaults_of_the_published_scripts() -> None:
    defaults = {name: (task.batch_size, task.epochs) for name, task in GLUE.items()}
    assert defaults == {
        "mnli": (16, 30), "sst2": (16, 60), "mrpc": (16, 30), "cola": (32, 80),
        "qnli": (32, 25), "qqp": (16, 25), "rte": (32, 80), "stsb": (16, 40),
    }  # fmt: skip
