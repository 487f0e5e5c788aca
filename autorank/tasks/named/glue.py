"""The eight GLUE tasks of the papers, from nyu-mll/glue on the Hub.

Batch size and epochs: microsoft/LoRA, examples/NLU/roberta_base_*.sh (per device there).
"""

from __future__ import annotations

from autorank.tasks.definition import CORRELATIONS, Task
from autorank.tasks.kinds.classification import CLASSIFICATION
from autorank.tasks.kinds.regression import REGRESSION

HUB = "nyu-mll/glue"
SOURCE = "GLUE (arXiv 1804.07461); training as in microsoft/LoRA examples/NLU/roberta_base_{}.sh"
PAIR = ("sentence1", "sentence2")


def _glue(
    name: str,
    text: tuple[str, ...],
    label_names: tuple[str, ...],
    metrics: tuple[str, ...],
    batch_size: int,
    epochs: int,
    validation: tuple[str, ...] = ("validation",),
) -> Task:
    return Task(
        name=name,
        kind=CLASSIFICATION if label_names else REGRESSION,
        text=text,
        label="label",
        label_names=label_names,
        metrics=metrics,
        validation=validation,
        hub=(HUB, name),
        epochs=epochs,
        batch_size=batch_size,
        source=SOURCE.format(name),
    )


ENTAILMENT = ("entailment", "not_entailment")
MNLI_VALIDATION = ("validation_matched", "validation_mismatched")

GLUE: dict[str, Task] = {
    task.name: task
    for task in (
        _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), 32, 80),
        _glue("sst2", ("sentence",), ("negative", "positive"), ("accuracy",), 16, 60),
        _glue("mrpc", PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1"), 16, 30),
        _glue("stsb", PAIR, (), CORRELATIONS, 16, 40),
        _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), 16, 25),
        _glue(
            "mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), ("accuracy",),
            16, 30, MNLI_VALIDATION,
        ),
        _glue("qnli", ("question", "sentence"), ENTAILMENT, ("accuracy",), 32, 25),
        _glue("rte", PAIR, ENTAILMENT, ("accuracy",), 32, 80),
    )
}  # fmt: skip
