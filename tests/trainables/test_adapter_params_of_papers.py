"""Adapter parameters on the papers' models, from their configurations only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autorank.methods import configure, find
from autorank.modeling import adapters, target_modules
from tests.trainables.base_models import deberta, roberta
from trainables.lora_drop import groups
from trainables.prilora import PRILoRAConfig, ranks

UNIT = 165_888  # one rank for each linear layer


@pytest.fixture(scope="module", params=[roberta, deberta], ids=["roberta", "deberta"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    model: nn.Module = request.param()
    return model


def params(method: str, model: nn.Module, **settings: Any) -> tuple[int, int]:
    return find(method).adapter_params(configure(method, settings).config, model)


def test_all_linear_layers(model: nn.Module) -> None:
    shapes = target_modules.shapes(model, "all-linear")
    assert len(shapes) == 72
    assert sorted({tuple(sorted(shape)) for shape in shapes.values()}) == [(768, 768), (768, 3072)]
    assert sum(map(sum, shapes.values())) == 12 * (4 * (768 + 768) + 2 * (768 + 3072)) == UNIT


@pytest.mark.parametrize(("rank", "total"), [(1, 165_888), (2, 331_776), (8, 1_327_104)])
def test_lora(rank: int, total: int, model: nn.Module) -> None:
    assert params("lora", model, targets="all-linear", rank=rank) == (total, total)


def test_lora_of_query_and_value(model: nn.Module) -> None:
    assert params("lora", model) == (294_912, 294_912)


def test_variants_of_lora(model: nn.Module) -> None:
    """DoRA adds a norm for each of 768 rows of 24 layers; EVA may give half of the layers, all of one size, rank 16."""
    assert params("dora", model) == (294_912 + 24 * 768,) * 2
    for name in ("rslora", "pissa", "eva"):
        assert params(name, model) == (294_912, 294_912)
    assert params("eva", model, targets="all-linear") == (576 * 1536, 24 * 16 * 3840 + 192 * 1536)


def test_a_mean_rank_of_one(model: nn.Module) -> None:
    """IncreLoRA has no ranks to add then, and AdaLoRA none to remove if it starts there."""
    assert params("increlora", model, mean_rank=1) == (UNIT, UNIT)
    assert params("adalora", model, mean_rank=1, start_ratio=1) == (UNIT, UNIT)
    assert params("prilora", model, mean_rank=1, slope=0) == (UNIT, UNIT)


def test_prilora_from_4_to_12(model: nn.Module) -> None:
    assert params("prilora", model, mean_rank=8, slope=0.5) == (1_327_104, 1_327_104)
    assert params("prilora", model, mean_rank=8, slope=-0.5) == (1_327_104, 1_327_104)
    assert params("prilora", model, mean_rank=8, slope=0, last_layers=4) == (1_327_104, 1_327_104)
    layer_ranks = ranks(target_modules.shapes(model, "all-linear"), PRILoRAConfig())
    assert list(layer_ranks.values()) == [rank for rank in (4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12) for _ in range(6)]


def greedy(sizes: list[int], budget: int, top_h: int, components: int) -> int:
    """Parameters if the first layers of `sizes` are chosen at every allocation, a rank at a time."""
    layer_ranks = [1 for _ in sizes]
    while sum(layer_ranks) < budget:
        for layer in range(min(top_h, len(sizes))):
            for _ in range(components):
                if sum(layer_ranks) < budget:
                    layer_ranks[layer] += 1
    return sum(size for size, rank in zip(sizes, layer_ranks, strict=True) for _ in range(rank))


@pytest.mark.parametrize(
    ("settings", "components"),
    [
        ({}, 4),
        ({"top_h": 13, "components": 5}, 5),
        ({"mean_rank": 2.5, "top_h": 40}, 1),
        ({"mean_rank": 3, "top_h": 100}, 1),
    ],
)
def test_the_bounds_of_increlora(settings: dict[str, Any], components: int, model: nn.Module) -> None:
    lower, upper = params("increlora", model, **settings)
    sizes = sorted(sum(shape) for shape in target_modules.shapes(model, "all-linear").values())
    full_settings = {"mean_rank": 8, "top_h": 10} | settings
    budget = int(72 * full_settings["mean_rank"] + 0.5)
    assert lower == greedy(sizes, budget, full_settings["top_h"], components)
    assert upper == greedy(sizes[::-1], budget, full_settings["top_h"], components)
    assert lower <= budget / 72 * UNIT <= upper


def test_increloras_range_at_mean_rank_8(model: nn.Module) -> None:
    """All 504 ranks beyond the first 72 go to attention (768 + 768), or all to the feed-forward layers (768 + 3072)."""
    assert params("increlora", model, mean_rank=8) == (UNIT + 504 * 1536, UNIT + 504 * 3840)
    assert UNIT + 504 * 1536 < 1_327_104 < UNIT + 504 * 3840


def test_adaloras_range_at_mean_rank_8(model: nn.Module) -> None:
    """576 triplets, at most 12 per layer: 48 attention layers hold them all, 24 feed-forward layers hold 288."""
    assert params("adalora", model, mean_rank=8) == (576 * 1536, 288 * 3840 + 288 * 1536)


@pytest.mark.parametrize(("ablation", "total"), [("none", 172_032), ("no-sharing", 147_456)])
def test_lora_drop_with_12_of_24_kept(ablation: str, total: int, model: nn.Module) -> None:
    """Six of twelve layers of each kind keep an update; the other layers of the kind share one."""
    layer_params = 8 * (768 + 768)
    lower, upper = params("lora-drop", model, threshold=0.5, ablation=ablation)
    shared = 2 if ablation == "none" else 0
    assert upper == total == (12 + shared) * layer_params
    assert lower == (2 + shared) * layer_params
    assert params("lora-drop", model, threshold=1.0, ablation=ablation) == (294_912, 294_912)
    kinds = groups(target_modules.shapes(model, "query,value"))
    assert [len(members) for members in kinds.values()] == [12, 12]


@pytest.mark.parametrize(
    ("method", "total"),
    [
        ("vera", 24 * (512 + 768)),  # 30,720
        ("tied-lora", 56 * 768 + 2 * 768 * 56 + 12 * (56 + 2 * 768)),  # 148,128
        ("sora", 12 * 8 * 13_824),  # 1,327,104 while no gate is zero
        ("sparse-adapter", 294_912),  # zeros included
    ],
)
def test_attached_parameters_equal_the_closed_form(method: str, total: int) -> None:
    """Counted on a model with attached updates that have shared and frozen factors, e and u."""
    with torch.device("meta"):
        model = roberta()
    model.requires_grad_(False)
    config: Any = configure(method, {}).config
    lower, upper = params(method, model)
    run: Any = SimpleNamespace(
        model=model,
        layers=target_modules.find(model, config.targets),
        device=torch.device("meta"),
        seed=0,
        labels=np.ones(9),
        weights=np.ones(9),
        generator=torch.Generator().manual_seed(0),
        total_steps=1,
        undo=[],
        optimizer=SimpleNamespace(add_group=lambda *_, **__: None),
    )
    run.gradients = lambda _: {name: torch.empty_like(p) for name, p in model.named_parameters()}
    configure(method, {}).prepare(run)
    assert upper == total == adapters.adapter_params(model)
    assert lower == (0 if method == "sora" else total)
