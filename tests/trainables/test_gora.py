"""GoRA's gradients, ranks and initial values against float64 autograd and examples computed by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.errors import AutorankError
from autorank.methods import configure
from autorank.modeling import base_model, target_modules
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests import tiny_language_models
from tests.trainables import conformance_runs, reference_training
from tests.trainables.base_models import roberta
from trainables.gora import GoRA, GoRAConfig, compressed, ranks, weight_gradients

pytestmark = pytest.mark.usefixtures("own_cache")


def reference(run: TrainingRun, model: str, examples: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer name -> W and dL/dW, out x in, in float64, computed one example at a time."""
    base = base_model.load(model, outputs=2)
    base.reset(0)
    network: Any = base.model.double().eval()
    chosen = torch.randperm(len(run._data.train), generator=torch.Generator().manual_seed(0))[:examples]
    weights = {}
    for name in target_modules.find(network, run.spec.settings["targets"]):
        weights[name] = network.get_parameter(f"{name}.weight").requires_grad_(True)
    for example in chosen.tolist():
        batch = collate(run._data.train, np.array([example]), run._data.pad_id)
        labels = batch.pop("labels")
        (F.cross_entropy(network(**batch).logits, labels) / len(chosen)).backward()
    transposed = model.endswith("gpt2")
    gradients = {}
    for name, weight in weights.items():
        assert weight.grad is not None
        gradients[name] = (weight.detach().T, weight.grad.T) if transposed else (weight.detach(), weight.grad)
    return gradients


@pytest.mark.parametrize(
    ("architecture", "settings", "training"),
    [
        ("bert", {"examples": 1000}, {}),  # all of the 91
        ("bert", {"examples": 40, "reference_rank": 3, "min_rank": 1, "max_rank": 9, "gamma": 0.3}, {"accumulate": 4}),
        ("gpt2", {"examples": 30, "reference_rank": 4, "min_rank": 1, "alpha": 4}, {"seed": 0}),
    ],
)
def test_ranks_and_first_values(
    architecture: str, settings: dict[str, Any], training: dict[str, Any], tmp_path: Path
) -> None:
    folder = reference_training.write(tmp_path, architecture)
    model = (folder / "model").rename(folder / architecture)
    train_spec = reference_training.spec(folder, "gora", settings, steps=2, **training)
    run = conformance_runs.open_run(train_spec.model_copy(update={"model": str(model)}))
    expected = reference(run, str(model), min(settings["examples"], 91))
    importance = {name: (W * G).abs().mean().item() for name, (W, G) in expected.items()}
    root = {name: math.sqrt(sum(W.shape)) for name, (W, _) in expected.items()}
    config = run._method.config
    assert isinstance(config, GoRAConfig)
    expected_ranks = {}
    for name, (W, _) in expected.items():
        share = importance[name] / sum(importance.values())
        exact = config.reference_rank * sum(root.values()) * share
        assert abs(exact % 1 - 0.5) > 1e-4  # otherwise float32 may round it differently
        rank = 0
        while (rank + 1) * root[name] <= math.floor(exact + 0.5):
            rank += 1
        limits = config.min_rank or config.reference_rank // 2, config.max_rank or 4 * config.reference_rank
        expected_ranks[name] = min(max(rank, limits[0]), limits[1], *W.shape)
    updates = reference_training.updates(run)
    assert {name: update.rank for name, update in updates.items()} == expected_ranks
    assert len(set(expected_ranks.values())) > 2
    for name, update in updates.items():
        A = update.A.detach().double()
        assert A.abs().max() <= 1 / math.sqrt(A.shape[1])  # Kaiming-uniform as LoRA's
        W, G = expected[name]
        projection = A.T @ torch.linalg.inv(A @ A.T) @ A  # onto A's rows
        step = config.gamma * math.sqrt(W.shape[1] / expected_ranks[name])
        delta = update.delta_weight().detach().double()
        torch.testing.assert_close(delta, -step * G @ projection, rtol=1e-3, atol=1e-3 * step * G.abs().max().item())
    assert run._context is not None
    layers = run._context.layers.values()
    assert not any(layer.weight.requires_grad or layer._forward_hooks for layer in layers)
    assert len(list(run)) == 2


def test_workers_share_the_examples_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' gradients add up to those of one process, also with more workers than examples."""
    run = TrainingRun(reference_training.spec(reference_training.write(tmp_path), "gora", {}, steps=2))
    run._open()
    context = run._context
    assert context is not None
    context.sum = lambda values: values

    def part(examples: int) -> dict[str, Tensor]:
        context.generator.manual_seed(0)
        return weight_gradients(context, examples)

    for examples, count in ((40, 3), (2, 4)):
        expected = part(examples)
        with monkeypatch.context() as patch:
            patch.setattr(distributed, "sum_gradients", lambda parameters: None)
            patch.setattr(distributed, "count", lambda count=count: count)
            total = {name: torch.zeros_like(G) for name, G in expected.items()}
            for rank in range(count):
                patch.setattr(distributed, "rank", lambda rank=rank: rank)
                for name, G in part(examples).items():
                    total[name] += G
        for name, G in expected.items():
            torch.testing.assert_close(total[name], G, rtol=1e-4, atol=1e-6)


def test_workers_on_a_model_without_trained_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Language models have no head."""
    task = TaskSpec(name="x", data=tiny_language_models.data(tmp_path / "data"), prompt="asked", completion="told")
    model = tiny_language_models.model("llama", tmp_path / "model")
    run = TrainingRun(TrainSpec(task=task, model=model, method="gora", training=TrainingSpec(steps=2, batch_size=8)))
    run._open()
    assert run._context is not None and not any(p.requires_grad for p in run._base.model.parameters())
    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(distributed, "sum_", lambda values: values)
    run._context.sum = lambda values: values
    assert all(G.isfinite().all() and G.any() for G in weight_gradients(run._context, 16).values())


def test_the_start_lowers_the_loss(tmp_path: Path) -> None:
    folder = reference_training.write(tmp_path)
    losses = {}
    for gamma in (0.0, 0.05):
        run = conformance_runs.open_run(
            reference_training.spec(folder, "gora", {"gamma": gamma, "examples": 91}, steps=2)
        )
        run._base.model.eval()
        batch = collate(run._data.train, np.arange(91), run._data.pad_id)
        labels = batch.pop("labels")
        with torch.no_grad():
            losses[gamma] = F.cross_entropy(run._base.model(**batch).logits, labels).item()
    assert losses[0.05] < losses[0.0] - 1e-4


def test_ranks_by_hand() -> None:
    """√(in + out) is 4, 4 and 8; the budget 8 · 16 = 128 is split into 1/8, 3/8 and 1/2: ranks 4, 12 and 8."""
    sizes = {"a": (8, 8), "b": (4, 12), "c": (32, 32)}
    config = GoRAConfig()
    assert ranks({"a": 1, "b": 3, "c": 4}, sizes, config) == {"a": 4, "b": 4, "c": 8}  # b: at most its 4 inputs
    assert ranks({"a": 0, "b": 0, "c": 4}, sizes, config) == {"a": 4, "b": 4, "c": 16}
    wide = {"a": (8, 8), "b": (8, 8), "c": (32, 32)}
    assert ranks({"a": 1, "b": 3, "c": 4}, wide, GoRAConfig(max_rank=6)) == {"a": 4, "b": 6, "c": 6}
    assert ranks({"a": 1, "b": 3, "c": 4}, wide, GoRAConfig(min_rank=1)) == {"a": 4, "b": 8, "c": 8}


def test_the_share_is_rounded_and_the_quotient_is_not() -> None:
    """The budget is 2 · (4 + 5 + 6) = 30; shares of 7.6, 15.6 and 6.8 make 8 = 2 · 4, 16 = 3.2 · 5 and 7 = 1.2 · 6."""
    sizes = {"a": (8, 8), "b": (10, 15), "c": (18, 18)}
    config = GoRAConfig(reference_rank=2, min_rank=1)
    assert ranks({"a": 7.6, "b": 15.6, "c": 6.8}, sizes, config) == {"a": 2, "b": 3, "c": 1}
    assert ranks({"a": 7.4, "b": 19.4, "c": 3.2}, sizes, config) == {"a": 1, "b": 3, "c": 1}  # 19 / 5: rounded it is 4


@pytest.mark.parametrize("importance", [0.0, math.nan, math.inf])
def test_unusable_gradients_are_refused(importance: float) -> None:
    with pytest.raises(AutorankError, match="gora cannot compute ranks"):
        ranks({"a": importance}, {"a": (8, 8)}, GoRAConfig())


def test_compressed_is_the_best_approximation() -> None:
    generator = torch.Generator().manual_seed(0)
    G, A = torch.randn(7, 9, generator=generator), torch.randn(3, 9, generator=generator)
    nearest = torch.linalg.lstsq(A.double().T, G.double().T).solution.T
    torch.testing.assert_close(compressed(G, A), nearest)


def test_limits_out_of_order_are_refused() -> None:
    with pytest.raises(AutorankError, match="min_rank 9 is greater than max_rank 8"):
        configure("gora", {"min_rank": 9, "max_rank": 8})


@pytest.mark.parametrize(
    "settings", [{}, {"reference_rank": 1}, {"min_rank": 1, "max_rank": 12}, {"min_rank": 8}, {"max_rank": 8}]
)
def test_ranks_stay_within_adapter_params(settings: dict[str, Any]) -> None:
    config = configure("gora", settings).config
    assert isinstance(config, GoRAConfig)
    sizes = target_modules.shapes(roberta(), "all-linear")
    lower, upper = GoRA.adapter_params(config, roberta())
    totals = []
    for power in (-4.0, -2.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0):
        for count in (1, 8, 12, 16, 18, 20, 24, 72):  # importance is in this many of the largest, or smallest
            for sign in (1, -1):
                favored = sorted(sizes, key=lambda name: sign * sum(sizes[name]))[:count]
                importance = {name: sum(sizes[name]) ** power if name in favored else 0.0 for name in sizes}
                layer_ranks = ranks(importance, sizes, config)
                totals.append(sum(rank * sum(sizes[name]) for name, rank in layer_ranks.items()))
    assert lower <= min(totals) and max(totals) <= upper
    # the bounds are close: a few of the 72 layers reach the limit
    assert min(totals) < 1.35 * lower and max(totals) > 0.85 * upper


def test_adapter_params_by_hand() -> None:
    """At least 4 for all; the budget raises `count` of the 24 layers of 3840 to 32, at a cost of 32 √3840 - ½ each."""
    budget = 8 * (48 * math.sqrt(1536) + 24 * math.sqrt(3840))
    count = budget / (32 * math.sqrt(3840) - 0.5)
    upper = 4 * 165_888 + math.ceil(count * 28 * 3840)
    assert count < 24
    assert GoRA.adapter_params(GoRAConfig(), roberta()) == (4 * 165_888, upper)
    assert GoRA.adapter_params(GoRAConfig(min_rank=8, max_rank=8), roberta()) == (1_327_104, 1_327_104)
