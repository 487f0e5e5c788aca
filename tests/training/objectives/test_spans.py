"""Training on questions whose answers are spans, and the choice of the best span."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.spans import Reference
from autorank.tasks.data.windows import Windows
from autorank.tasks.definition import TaskData
from autorank.tasks.named.squad import SQUAD
from autorank.training.objectives import spans
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.run import TrainingRun
from tests import tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")


def spec(
    folder: Path, architecture: str = "roberta", method: str = "lora", name: str = "squad_v1",
    settings: dict[str, Any] | None = None, **training: Any,
) -> TrainSpec:  # fmt: skip
    tiny_models.model(architecture, folder / "model")
    tiny_models.questions_folder(folder / "data", 96, unanswerable=name == "squad_v2")
    base = {"learning_rate": 2e-2}
    return TrainSpec(
        task=TaskSpec(name=name, data=folder / "data", max_length=32),
        model=str(folder / "model"),
        method=method,
        settings=base | (settings or {}),
        training=TrainingSpec(**{"epochs": 2, "batch_size": 16} | training),
    )


@pytest.mark.parametrize("architecture", ["roberta", "deberta-v2"])
def test_training_learns_spans(architecture: str, tmp_path: Path) -> None:
    evaluations = list(TrainingRun(spec(tmp_path, architecture, settings={"rank": 4}, epochs=6)))
    first, last = evaluations[0], evaluations[-1]
    assert last.train_loss < 0.7 * first.train_loss
    assert last.score == last.metrics["f1"] > 0.8 and last.metrics["exact_match"] > 0.7  # a random span: below 0.1
    assert last.head_params == 2 * tiny_models.HIDDEN + 2


def test_a_model_learns_which_questions_have_no_answer(tmp_path: Path) -> None:
    settings = {"rank": 8, "targets": "all-linear"}
    last = list(TrainingRun(spec(tmp_path, name="squad_v2", settings=settings, epochs=10, eval_every=60)))[-1]
    assert set(last.metrics) == {
        "f1", "f1_has_answer", "f1_no_answer", "exact_match", "exact_match_has_answer", "exact_match_no_answer",
        "best_f1", "best_exact_match",
    }  # fmt: skip
    assert last.score > 0.8  # no answer to all: 0.5
    assert min(last.metrics["f1_has_answer"], last.metrics["f1_no_answer"]) > 0.6
    assert last.metrics["best_f1"] >= last.score - 1e-9


@pytest.mark.parametrize(
    ("method", "settings"),
    [("lora-drop", {"rank": 2, "probe_ratio": 0.3}), ("prilora", {"interval": 4}), ("sparse-adapter", {})],
)
def test_methods_run_on_spans(method: str, settings: dict[str, Any], tmp_path: Path) -> None:
    last = list(TrainingRun(spec(tmp_path, "deberta-v2", method, "squad_v2", settings, epochs=1)))[-1]
    assert math.isfinite(last.train_loss) and 0 <= last.score <= 1 and last.adapter_params > 0


def test_loss_is_the_one_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForQuestionAnswering

    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_pretrained(tiny_models.model("roberta", tmp_path / "m")).eval()
    ids, labels = torch.randint(4, 60, (5, 20)), torch.randint(0, 20, (5, 2))
    output = model(input_ids=ids, start_positions=labels[:, 0], end_positions=labels[:, 1])
    loss = spans.SpanObjective(TaskData(SQUAD["squad_v1"], cast(Any, None), {}, "", 0)).loss(output, labels)
    torch.testing.assert_close(loss, output.loss)


def test_the_best_span_is_the_best_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "LONGEST_ANSWER", 4)
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 50, 17, generator=generator)
    context = torch.zeros(50, 17, dtype=torch.bool)
    for row in context:
        first, last = sorted(torch.randint(0, 18, (2,), generator=generator).tolist())
        row[first:last] = True
    score, first, last = spans.best_spans(start, end, context)
    assert not context.any(1).all()
    for row in range(50):
        inside = context[row].nonzero()[:, 0].tolist()
        candidates = [(float(start[row, i] + end[row, j]), i, j) for i in inside for j in inside if i <= j < i + 4]
        if candidates:
            assert (float(score[row]), int(first[row]), int(last[row])) == max(candidates)
        else:
            assert float(score[row]) == -math.inf


def windows() -> Windows:
    """Two questions, the first with two windows, the last without a context: each of its 4 tokens is a letter."""
    starts = np.array([[-1, -1, 0, 1], [-1, -1, 1, 2], [-1, -1, -1, -1]], np.int32)
    return Windows(
        np.zeros(12, np.int32), None, np.arange(0, 13, 4), np.zeros((3, 2), np.int64),
        [Reference("abc", ["c"], [2]), Reference("", [], [])], owner=np.array([0, 0, 1]),
        null=np.zeros(3, np.int64), starts=starts.reshape(-1), ends=np.where(starts < 0, -1, starts + 1).reshape(-1),
    )  # fmt: skip


def loop_with_logits(logits: np.ndarray) -> OptimizationLoop:
    """A stand-in for a loop whose model returns these as both start and end logits: windows x tokens."""

    def read(split: Windows, batches: list[np.ndarray], reader: Callable[[np.ndarray, Any], Any]) -> list[Any]:
        values = [torch.from_numpy(logits[rows].astype(np.float32)) for rows in batches]
        outputs = [SimpleNamespace(start_logits=value, end_logits=value) for value in values]
        return [(rows, reader(rows, output)) for rows, output in zip(batches, outputs, strict=True)]

    return cast(OptimizationLoop, SimpleNamespace(read=read))


def test_the_best_window_answers_and_the_lowest_null_counts() -> None:
    logits = np.array([[5, 9, 1, 2], [1.5, 9, 1, 3], [7, 9, 9, 9]], float)
    prediction = spans.predict(loop_with_logits(logits), windows())
    assert prediction is not None
    predicted, null_margins = prediction
    assert predicted == ["c", ""]  # in the second window, though a token of the question has a higher logit
    assert null_margins.tolist() == [2 * 1.5 - 2 * 3, math.inf]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_score_nothing(broken: float) -> None:
    logits = np.ones((3, 4))
    logits[1, 1] = broken
    objective = spans.SpanObjective(TaskData(SQUAD["squad_v2"], windows(), {}, "", 0))
    scores = objective.evaluate(loop_with_logits(logits), {"validation": windows()})
    assert all(math.isnan(score) for score in scores.values()) and set(scores) == {"f1", "exact_match"}
