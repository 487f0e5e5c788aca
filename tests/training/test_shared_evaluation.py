"""Two workers evaluate parts of the examples; scores, outcomes, losses and slices are those of one worker, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from tests import texts, tiny
from tests.trainables.trained import cached_in, on_workers, results

TASKS: dict[str, dict[str, Any]] = {
    "pairs": {"text": ("left", "right"), "label": "label"},
    "questions": {"name": "squad_v1"},
    "likelihood": {"data": "texts", "prompt": "asked", "completion": "told"},
    "rouge": {"data": "texts", "prompt": "asked", "completion": "told", "metric": "rougeL"},
}


def evaluated(folder: Path, task: str) -> dict[str, Any]:
    """Evaluate an adapter with random factors, and a slice of it."""
    given = TASKS[task]
    spec = TrainSpec(
        task=TaskSpec(**{"name": task} | given | {"data": folder / given.get("data", task)}),
        model=str(folder / ("llama" if "prompt" in given else "bert")),
        method="lora",
        settings={"rank": 4, "learning_rate": 1e-2, "targets": "all-linear"},
        training=TrainingSpec(steps=6, batch_size=4, eval_every=3, precision="fp32"),
    )
    run = TrainingRun(spec, ModelCache("cpu"))
    run.begin()
    draw = torch.Generator().manual_seed(0)
    for layer in adapters.adapted(run._base.model).values():
        layer.update.B.data.normal_(std=0.5, generator=draw)
    passed: list[int] = []
    run._base.model.register_forward_pre_hook(lambda *call: passed.append(len(call[2]["input_ids"])), with_kwargs=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (generation, labels, spans, forward_passes):
            patch.setattr(module, "EVAL_BATCH", 3)
        patch.setattr("autorank.training.eval_batch_size.DECODED", 3)
        scores = run._objective.evaluate(run._phase, run._data.validation)
        passes = sum(passed)
        loss = run._phase.mean_loss(run._data.validation)
        piece, _ = run._slices.at(1000)
    assert scores.outcomes is not None
    return {"values": (dict(scores), pack([scores.outcomes]), loss, piece), "passes": passes}


def jobs(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    return {task: partial(evaluated, folder, task) for task in TASKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("shared")
    (made / "pairs").mkdir()
    for split, size in (("train", 24), ("validation", 20)):
        tiny.pairs_file(made / "pairs" / f"{split}.jsonl", size, seed=size)
    tiny.questions_folder(made / "questions", 24)
    tiny.model("bert", made / "bert")
    texts.data(made / "texts")
    texts.model("llama", made / "llama")
    with cached_in(made):
        on_workers(jobs, made, seconds=300)
        yield made


@pytest.mark.parametrize("task", TASKS)
def test_workers_share_an_evaluation(task: str, folder: Path) -> None:
    alone, workers = evaluated(folder, task), results(folder, task)
    for worker in workers:
        assert worker["values"] == alone["values"]
        assert worker["passes"] < 0.8 * alone["passes"]
