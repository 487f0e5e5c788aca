"""RunContext.gradients equals the sum over single examples, on one worker and split over several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables.conformance_runs import open_run

EXAMPLES = np.array([1, 2, 5, 7, 8, 11, 12, 17, 18, 20, 21])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("gradients")
    tiny_models.model("bert", folder / "model")  # with dropout, which evaluation mode leaves out
    tiny_models.pairs_folder(folder / "data", 24, 4)
    with cached_in(folder):
        yield folder


def run_with_updates(workspace: Path, **training: int) -> TrainingRun:
    train_spec = TrainSpec(
        task=TaskSpec(name="pairs", data=workspace / "data", text=("left", "right"), label="label"),
        model=str(workspace / "model"),
        method="sora",  # its gates are nonzero, and B is set to nonzero values below
        settings={"rank": 2},
        training=TrainingSpec(**{"steps": 4, "batch_size": 4, "precision": "fp32"} | training),
    )
    run = open_run(train_spec)
    for name, parameter in run._base.model.named_parameters():
        if name.endswith("update.B"):
            parameter.data.fill_(0.1)
    return run


def gradients_one_by_one(run: TrainingRun) -> dict[str, Tensor]:
    model = run._base.model.eval()
    for example in EXAMPLES:
        batch = collate(run._data.train, np.array([example]), run._data.pad_id)
        labels = batch.pop("labels")
        F.cross_entropy(model(**batch).logits, labels).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    for parameter in model.parameters():
        parameter.grad = None
    return gradients


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_the_sum_over_examples(accumulate: int, workspace: Path) -> None:
    run = run_with_updates(workspace, accumulate=accumulate)
    assert run._context is not None
    expected = gradients_one_by_one(run)
    actual = run._context.gradients(EXAMPLES)
    trained = {name: p for name, p in run._base.model.named_parameters() if p.requires_grad}
    assert set(actual) == set(trained) and any(".update.A" in name for name in actual) and "classifier.weight" in actual
    assert all(parameter.grad is None for parameter in trained.values())
    assert all(gradient.any() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-4, atol=1e-5)


def test_workers_split_the_examples(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with more workers than examples; the workers' gradients add up to those of one worker."""
    run = run_with_updates(workspace)
    assert run._context is not None
    expected = run._context.gradients(EXAMPLES)
    monkeypatch.setattr(distributed, "sum_gradients", lambda parameters: None)
    for count in (3, len(EXAMPLES) + 2):
        monkeypatch.setattr(distributed, "count", lambda count=count: count)
        sums = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
        for rank in range(count):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            for name, gradient in run._context.gradients(EXAMPLES).items():
                sums[name] += gradient
        for name, gradient in expected.items():
            torch.testing.assert_close(sums[name], gradient, rtol=1e-4, atol=1e-5)
