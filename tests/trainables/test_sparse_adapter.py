"""SparseAdapter: scores against gradients of masks, one example at a time, and zeros that stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from autorank.export.peft_export import write_peft
from autorank.methods import configure
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables import conformance_runs
from trainables.sparse_adapter import masks, sample


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sparse")
    tiny_models.model("bert", folder / "bert")
    tiny_models.pairs_folder(folder / "data", 40, 8)
    with cached_in(folder):
        yield folder


def open_run(workspace: Path, **settings: Any) -> TrainingRun:
    """A run with attached and masked updates, before its first step; it evaluates after every step."""
    train_spec = TrainSpec(
        task=TaskSpec(name="pairs", data=workspace / "data", text=("left", "right"), label="label"),
        model=str(workspace / "bert"),
        method="sparse-adapter",
        settings={"rank": 3, "learning_rate": 1e-2, "targets": "query,value"} | settings,
        training=TrainingSpec(steps=8, batch_size=8, eval_every=1, precision="fp32", weight_decay=0.1),
    )
    return conformance_runs.open_run(train_spec)


def factors(run: TrainingRun) -> dict[str, Tensor]:
    parameters = run._base.model.named_parameters()
    return {name: p for name, p in parameters if name.endswith(("update.A", "update.B"))}


def zeros(run: TrainingRun) -> dict[str, Tensor]:
    return {name: factor.detach() == 0 for name, factor in factors(run).items()}


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
def test_the_lowest_of_all_are_masked(sparsity: float) -> None:
    draw = torch.Generator().manual_seed(0)
    scores = [torch.rand(shape, generator=draw) for shape in ((3, 7), (5, 3), (2, 2))]
    actual = masks(scores, sparsity)
    assert [mask.shape for mask in actual] == [values.shape for values in scores]
    pooled, mask = (torch.cat([values.flatten() for values in tensors]).tolist() for tensors in (scores, actual))
    lowest = math.ceil(round(sparsity * 40, 6))
    assert [keep for _, keep in sorted(zip(pooled, mask, strict=True))] == [False] * lowest + [True] * (40 - lowest)


def test_equal_scores_lose_the_share_exactly() -> None:
    assert masks([torch.zeros(6), torch.zeros(4)], 0.5)[0].tolist() == [False] * 5 + [True]


def test_the_size_and_the_seed_of_the_sample() -> None:
    labels = np.array([0, 1, 2] * 30)
    chosen = sample(labels, 10, seed=0)
    assert len(chosen) == 30 == len(set(chosen.tolist())) and (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, sample(labels, 10, seed=1))
    assert len(sample(labels, 50, seed=0)) == 90  # all examples
    assert len(sample(np.linspace(0, 5, 90, dtype=np.float32), 10, seed=0)) == 10


def test_scores_are_gradients_of_the_masks(workspace: Path) -> None:
    """As in SNIP, every entry has a mask of value one; the run's zeros are where its gradient is smallest."""
    run, unmasked = open_run(workspace), open_run(workspace, sparsity=0.0)
    assert not any(zero.any() for zero in zeros(unmasked).values())
    for name, factor in factors(unmasked).items():  # "bert"
        assert factor.std().item() == pytest.approx(0.02, rel=0.4), name
    model = unmasked._base.model.eval()
    unit_masks = {name: torch.ones_like(factor, requires_grad=True) for name, factor in factors(unmasked).items()}
    initial = {name: factor.detach().clone() for name, factor in factors(unmasked).items()}
    for example in sample(unmasked._data.train.labels, 10, seed=0):
        batch = collate(unmasked._data.train, np.array([example]), unmasked._data.pad_id)
        labels = batch.pop("labels")
        masked = {name: initial[name] * unit_masks[name] for name in initial}
        F.cross_entropy(torch.func.functional_call(model, masked, kwargs=batch).logits, labels).backward()
    scores = {name: mask.grad.abs() for name, mask in unit_masks.items() if mask.grad is not None}
    all_scores = torch.cat([values.flatten() for values in scores.values()])
    threshold = all_scores.kthvalue(math.ceil(len(all_scores) / 2)).values
    for name, zero in zeros(run).items():
        sure = (scores[name] - threshold).abs() > 1e-4 * threshold  # near the threshold rounding decides
        assert torch.equal(zero[sure], (scores[name] <= threshold)[sure])
        assert torch.equal(factors(run)[name].detach(), initial[name] * ~zero)


def test_masked_weights_stay_zero_and_the_others_train(workspace: Path, tmp_path: Path) -> None:
    run = open_run(workspace, sparsity=0.7, dropout=0.1)
    masked = zeros(run)
    total = sum(zero.numel() for zero in masked.values())
    nonzero = total - math.ceil(0.7 * total)
    before = {name: factor.detach().clone() for name, factor in factors(run).items()}
    for evaluation in run:
        assert evaluation.adapter_params == total and evaluation.nonzero_params == nonzero
        assert all(torch.equal(zero, masked[name]) for name, zero in zeros(run).items())
    for name, factor in factors(run).items():
        assert (factor.detach() != before[name])[~masked[name]].all()
        moments = run._loop.optimizer.state_dict()["moments"][name]
        assert not moments["exp_avg"][masked[name]].any() and not moments["exp_avg_sq"][masked[name]].any()
    run.save_adapter(tmp_path / "adapter.safetensors")
    write_peft(tmp_path / "adapter.safetensors", tmp_path / "peft")
    peft_weights = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    for name, zero in masked.items():
        exported = name.replace("update.", "lora_")
        assert torch.equal(peft_weights[f"base_model.model.{exported}.weight"] == 0, zero)
    layers = [layer.update for layer in adapters.adapted(run._base.model).values()]
    run.release()
    for update in layers:  # the hooks are removed
        update.A.grad = None
        update.A.sum().backward()
        assert update.A.grad is not None and update.A.grad.all()


def test_masks_are_restored_from_a_checkpoint(workspace: Path) -> None:
    """Masks come from the checkpoint, not from zeros: an unmasked entry that is zero continues to train."""
    run = open_run(workspace)
    next(run)
    name, factor = next(iter(factors(run).items()))
    row, column = (factor != 0).nonzero()[0].tolist()
    factor.data[row, column] = 0
    state = run.state_dict()
    resumed = TrainingRun(run.spec, ModelCache("cpu"))
    resumed.load_state_dict(state)
    next(resumed)
    kept = run._method.state_dict()["kept"]
    assert kept[name][row, column] and factors(resumed)[name][row, column] != 0
    assert all(torch.equal(factors(resumed)[n].detach() != 0, kept[n]) for n in kept)


def test_defaults_are_lora_drops_baseline() -> None:
    config: Any = configure("sparse-adapter", {}).config
    assert (config.rank, config.sparsity, config.targets) == (8, 0.5, "attention-qv")
