"""Two workers evaluate parts of the examples; scores, outcomes, losses and slices are those of one worker, exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.metrics.outcomes import pack
from autorank.training.model_cache import ModelCache
from autorank.training.objectives import generation, labels, spans
from autorank.training.optimization import forward_passes
from autorank.training.run import TrainingRun
from tests.trainables.conformance_runs import on_workers, results

TASKS: dict[str, dict[str, Any]] = {
    "pairs": {"text": ("left", "right"), "label": "label"},
    "questions": {"name": "squad_v1"},
    "likelihood": {"data": "texts", "prompt": "asked", "completion": "told"},
    "rouge": {"data": "texts", "prompt": "asked", "completion": "told", "metric": "rougeL"},
}


def evaluate(folder: Path, task: str) -> dict[str, Any]:
    """Evaluate an adapter with random factors, and a slice of it."""
    task_settings = TASKS[task]
    spec = TrainSpec(
        task=TaskSpec(**{"name": task} | task_settings | {"data": folder / task_settings.get("data", task)}),
        model=str(folder / ("llama" if "prompt" in task_settings else "bert")),
        method="lora",
        settings={"rank": 4, "learning_rate": 1e-2, "targets": "all-linear"},
        training=TrainingSpec(steps=6, batch_size=4, eval_every=3, precision="fp32"),
    )
    run = TrainingRun(spec, ModelCache("cpu"))
    run.start()
    draw = torch.Generator().manual_seed(0)
    for layer in adapters.adapted(run._base.model).values():
        layer.update.B.data.normal_(std=0.5, generator=draw)
    batch_sizes: list[int] = []
    run._base.model.register_forward_pre_hook(
        lambda *call: batch_sizes.append(len(call[2]["input_ids"])), with_kwargs=True
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (generation, labels, spans, forward_passes):
            patch.setattr(module, "EVAL_BATCH", 3)
        patch.setattr("autorank.training.eval_batch_size.DECODED", 3)
        scores = run._objective.evaluate(run._loop, run._data.validation)
        passes = sum(batch_sizes)
        loss = run._loop.mean_loss(run._data.validation)
        slice_, _ = run._slices.at(1000)
    assert scores.outcomes is not None
    return {"values": (dict(scores), pack([scores.outcomes]), loss, slice_), "passes": passes}


def jobs(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    return {task: partial(evaluate, folder, task) for task in TASKS}


@pytest.fixture(scope="module")
def folder(tasks_folder: Path) -> Path:
    """The directory, with the workers' results."""
    on_workers(jobs, tasks_folder, seconds=300)
    return tasks_folder


@pytest.mark.parametrize("task", TASKS)
def test_workers_share_an_evaluation(task: str, folder: Path) -> None:
    alone, workers = evaluate(folder, task), results(folder, task)
    for worker in workers:
        assert worker["values"] == alone["values"]
        assert worker["passes"] < 0.8 * alone["passes"]
