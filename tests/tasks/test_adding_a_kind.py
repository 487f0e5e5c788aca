"""A new kind of task is one module: counts with the Poisson loss, in a package of the user."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks import TASKS
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_models

MODULE = """
import math

import numpy as np
import torch

from autorank.tasks.definition import Task
from autorank.tasks.kinds.regression import Regression
from autorank.tasks.metrics.outcomes import Scores
from autorank.training.objectives.base import EVAL_BATCH
from autorank.training.objectives.labels import ClassificationObjective
from autorank.tasks.data.batches import eval_batches


class Count(Regression):
    name = "count"
    problem_type = None
    objective = "counts.kind:Poisson"


class Poisson(ClassificationObjective):
    def loss(self, outputs, labels):
        return torch.nn.functional.poisson_nll_loss(outputs.logits.squeeze(-1).float(), labels)

    def evaluate(self, predictor, splits):
        (split,) = splits.values()
        rates = np.exp(predictor.predict(split, eval_batches(split.lengths, EVAL_BATCH)).ravel())
        return Scores({"closeness": 1 / (1 + float(np.abs(rates - split.labels).mean()))})


TASK = Task("counts", Count(), ("text",), "count", (), ("closeness",), epochs=1, batch_size=8, max_length=16)
"""


@pytest.mark.usefixtures("own_cache")
def test_a_new_kind_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counts").mkdir()
    (tmp_path / "counts" / "kind.py").write_text(MODULE)
    for name, rows in {"train": 24, "validation": 8}.items():
        lines = [f"word number {i} again,{i % 5}" for i in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,count", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TASKS, "counts", import_module("counts.kind").TASK)
    spec = TrainSpec(
        method="lora", model=tiny_models.model("bert", tmp_path / "bert"), task=TaskSpec(name="counts", data=tmp_path),
        training=TrainingSpec(steps=4, eval_every=4, batch_size=8),
    )  # fmt: skip
    run = TrainingRun(spec, ModelCache("cpu"))
    (evaluation,) = list(run)[-1:]
    assert 0 < evaluation.score < 1 and set(evaluation.metrics) == {"closeness"}
    assert np.isfinite(evaluation.train_loss)
    for module in [name for name in sys.modules if name.split(".")[0] == "counts"]:
        del sys.modules[module]
