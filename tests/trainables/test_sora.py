"""SoRA: the proximal step against an equal run without one; the penalty and the thresholds by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autorank.errors import AutorankError
from autorank.export.peft_export import write_peft
from autorank.methods import configure, find
from autorank.modeling import adapter_file, adapters, base_model
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables import conformance_runs
from trainables.sora import normalizations


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sora")
    tiny_models.model("bert", folder / "bert")
    tiny_models.pairs_folder(folder / "data", 24, 8)
    with cached_in(folder):
        yield folder


def open_run(workspace: Path, settings: dict[str, Any] | None = None, **training: Any) -> TrainingRun:
    """A run with attached updates, before its first step; it evaluates after every step."""
    common = {"steps": 6, "batch_size": 8, "eval_every": 1, "precision": "fp32", "warmup_ratio": 0.0}
    train_spec = TrainSpec(
        task=TaskSpec(name="pairs", data=workspace / "data", text=("left", "right"), label="label"),
        model=str(workspace / "bert"),
        method="sora",
        settings={"rank": 4, "learning_rate": 1e-2, "targets": "query,value"} | (settings or {}),
        training=TrainingSpec(**common | training),
    )
    return conformance_runs.open_run(train_spec)


def gates(run: TrainingRun) -> Tensor:
    """All gates, layer by layer."""
    gate_vectors = [layer.update.e for layer in adapters.adapted(run._base.model).values()]
    return torch.cat([e.detach() for e in gate_vectors if e is not None])


def test_gates_start_normal_and_the_update_zero(workspace: Path) -> None:
    initial = gates(open_run(workspace, {"rank": 500}))
    assert len(initial) == 500 * 2 * tiny_models.LAYERS
    assert abs(initial.mean()) < 0.1 and initial.std().item() == pytest.approx(1, abs=0.05)
    for layer in adapters.adapted(open_run(workspace)._base.model).values():
        assert layer.update.scale == 4 and not layer.update.B.any() and layer.update.rank == 4


def test_after_a_step_gates_shrink_by_the_threshold(workspace: Path) -> None:
    """The learning rate does not matter; a twin run without a threshold gives the gates before they shrink."""
    twin, run = (open_run(workspace, {"threshold": threshold}) for threshold in (0.0, 0.3))
    before = gates(twin)
    next(twin), next(run)
    moved = gates(twin)
    assert ((moved - before).abs() > 1e-3).any()  # in the first step only the penalty moves them
    by_hand = [g - 0.3 if g > 0.3 else g + 0.3 if g < -0.3 else 0.0 for g in moved.tolist()]
    torch.testing.assert_close(gates(run), torch.tensor(by_hand))
    zero = gates(run) == 0
    assert 0 < zero.sum() < len(zero)
    counted = torch.cat([torch.as_tensor(u.update.active) for u in adapters.adapted(run._base.model).values()])
    assert torch.equal(counted, ~zero)


def test_only_gates_are_without_weight_decay(workspace: Path) -> None:
    groups = open_run(workspace, weight_decay=0.1)._loop.optimizer.groups
    undecayed = {name for group in groups for name in group["names"] if group["weight_decay"] == 0}
    assert {name for name in undecayed if ".update." in name} == {
        name for group in groups for name in group["names"] if name.endswith("update.e")
    }
    assert any(name.endswith("update.A") for group in groups if group["weight_decay"] == 0.1 for name in group["names"])


def test_the_penalty_is_the_gates_mean_magnitude(workspace: Path) -> None:
    run = open_run(workspace, {"sparse_lambda": 5.0})
    assert run._context is not None
    penalty = run._method.penalty(run._context)
    assert penalty is not None
    all_gates = gates(run)
    assert penalty.item() == pytest.approx(5 * sum(abs(g) for g in all_gates.tolist()) / len(all_gates), rel=1e-6)
    penalty.backward()
    first = next(iter(adapters.adapted(run._base.model).values())).update.e
    assert first is not None
    torch.testing.assert_close(first.grad, 5 / len(all_gates) * first.detach().sign())
    unpenalized = open_run(workspace, {"sparse_lambda": 0.0})
    assert unpenalized._context is not None and unpenalized._method.penalty(unpenalized._context) is None


def test_a_zero_gate_may_come_back(workspace: Path) -> None:
    """A component with a zero gate is left out of counts and evaluations, but is not removed."""
    run = open_run(workspace, {"threshold": 1e-3, "sparse_lambda": 0.0}, steps=8)
    layers = list(adapters.adapted(run._base.model).values())
    for layer in layers:
        assert layer.update.e is not None
        layer.update.e.data[0] = 0
        layer.update.B.data.fill_(0.1)
    ranks = [sum(next(run).ranks.values()) for _ in range(8)]
    assert all(layer.update.components == 4 for layer in layers)
    assert any(layer.update.e[0] != 0 for layer in layers if layer.update.e is not None)
    assert ranks[-1] == int((gates(run) != 0).sum())


def test_thresholds_follow_each_other(workspace: Path) -> None:
    run = open_run(workspace, {"threshold": 0.1, "schedule": (0.2, 0.3), "first": 0.4}, steps=10)
    assert run._context is not None
    method: Any = run._method
    thresholds = []
    for run._context.step in range(10):
        thresholds.append(method._threshold(run._context))
    assert thresholds == [0.1] * 4 + [0.2] * 3 + [0.3] * 3
    constant = open_run(workspace, {"threshold": 0.1}, steps=10)
    assert constant._context is not None
    constant._context.step = 9
    assert constant._method._threshold(constant._context) == 0.1  # type: ignore[attr-defined]


def test_more_thresholds_than_steps_are_refused(workspace: Path) -> None:
    with pytest.raises(AutorankError, match=r"^sora's schedule has 5 thresholds.* 6 steps\. Train longer"):
        open_run(workspace, {"schedule": (0.1,) * 5})
    open_run(workspace, {"schedule": (0.1,) * 4})


def test_a_run_may_lose_all_components(workspace: Path, tmp_path: Path) -> None:
    run = open_run(workspace, {"threshold": 10.0}, steps=2)
    for evaluation in run:
        assert set(evaluation.ranks.values()) == {0}
        assert evaluation.adapter_params == evaluation.nonzero_params == 0
    run.save_adapter(tmp_path / "adapter.safetensors")
    restored, _ = adapter_file.load(tmp_path / "adapter.safetensors")
    assert set(adapters.ranks(restored.model).values()) == {0}
    values = load_file(tmp_path / "adapter.safetensors")
    assert not any(value.numel() for name, value in values.items() if ".update." in name)


def test_normalization_layers_are_trained_and_counted_if_set(workspace: Path, tmp_path: Path) -> None:
    settings = {"layer_norms": True, "threshold": 0.05, "rank": 4, "targets": "query,value"}
    run = open_run(workspace, settings)
    model = run._base.model
    names = set(normalizations(model))
    assert names == {
        f"bert.encoder.layer.{i}.{module}.LayerNorm.{part}"
        for i in range(tiny_models.LAYERS)
        for module in ("attention.output", "output")
        for part in ("weight", "bias")
    }
    initial = {name: model.get_parameter(name).detach().clone() for name in names}
    last = list(run)[-1]
    assert all(not torch.equal(model.get_parameter(name), initial[name]) for name in names)
    norms = 4 * tiny_models.LAYERS * tiny_models.HIDDEN
    assert last.adapter_params == norms + 2 * tiny_models.HIDDEN * sum(last.ranks.values())
    config = configure("sora", settings).config
    bounds = find("sora").adapter_params(config, base_model.meta_model(str(workspace / "bert")))
    assert bounds == (norms, norms + 4 * 2 * tiny_models.HIDDEN * 2 * tiny_models.LAYERS)
    batch = {"input_ids": torch.arange(4, 18).view(2, 7)}
    run.save_adapter(tmp_path / "adapter.safetensors")
    write_peft(tmp_path / "adapter.safetensors", tmp_path / "peft")
    base = AutoModelForSequenceClassification.from_pretrained(workspace / "bert", num_labels=2)
    peft_model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    torch.testing.assert_close(peft_model(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-5)
    run.release()
    assert all(torch.equal(model.get_parameter(name), initial[name]) for name in names)
    assert not any(model.get_parameter(name).requires_grad for name in names)
