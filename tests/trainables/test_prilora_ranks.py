"""PRILoRA's ranks against examples computed by hand, and its masks against sorting."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch

from autorank.errors import AutorankError
from autorank.methods import configure
from trainables.prilora import PRILoRAConfig, linear, masks, ranks

# Ranks


@pytest.mark.parametrize(
    ("layers", "mean", "slope", "expected"),
    [
        (12, 8, 0.5, [4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12]),
        (12, 8, -0.5, [12, 11, 11, 10, 9, 8, 8, 7, 6, 5, 5, 4]),
        (12, 8, 0, [8] * 12),
        (5, 2, 1, [0, 1, 2, 3, 4]),
        (5, 2, -1, [4, 3, 2, 1, 0]),
        (1, 3, 0.5, [3]),
        (3, 3, 0.5, [1, 3, 5]),  # 1.5, 3, 4.5 round to 2, 3, 5, one too many: the earlier layer loses it
        (4, 0.5, 0, [0, 0, 1, 1]),  # all rounded up to 1
        (4, 0.25, 1, [0, 0, 0, 1]),  # 0, 1/6, 1/3, 1/2
    ],
)
def test_ranks_by_hand(layers: int, mean: float, slope: float, expected: list[int]) -> None:
    assert linear(layers, mean, slope) == expected


def test_the_total_is_exact_and_ranks_stay_near_the_line() -> None:
    for layers in (1, 2, 3, 6, 7, 12, 24, 25):
        for mean in (0.3, 0.5, 1, 1.25, 2, 2.5, 3.7, 8, 17.3):
            for slope in (-1, -0.7, -0.5, -0.1, 0, 0.2, 0.5, 0.99, 1):
                layer_ranks = linear(layers, mean, slope)
                message = f"{layers} layers, mean {mean}, slope {slope}: {layer_ranks}"
                assert sum(layer_ranks) == int(layers * mean + 0.5), message
                rises = 2 * slope * mean / (layers - 1) if layers > 1 else 0
                line = [mean - (slope * mean if layers > 1 else 0) + i * rises for i in range(layers)]
                assert all(abs(r - exact) < 1 and r >= 0 for r, exact in zip(layer_ranks, line, strict=True)), message
                assert layer_ranks == sorted(layer_ranks, reverse=slope < 0) or slope == 0, message


def config(**settings: Any) -> PRILoRAConfig:
    prilora_config = configure("prilora", settings).config
    assert isinstance(prilora_config, PRILoRAConfig)
    return prilora_config


def test_all_matrices_of_a_layer_have_its_rank() -> None:
    names = [f"bert.encoder.layer.{i}.{kind}" for i in range(3) for kind in ("attention.query", "output.dense")]
    assert list(ranks(names, config(mean_rank=2, slope=1)).values()) == [0, 0, 2, 2, 4, 4]
    with pytest.raises(AutorankError, match=r"with mean_rank 0\.1 all ranks are 0"):
        ranks(names, config(mean_rank=0.1))


def test_the_whole_budget_in_the_last_layers() -> None:
    names = [f"bert.encoder.layer.{i}.output.dense" for i in range(12)]
    assert list(ranks(names, config(last_layers=3, slope=0)).values()) == [0] * 9 + [32] * 3
    assert list(ranks(names, config(last_layers=2, slope=0.5)).values()) == [0] * 10 + [24, 72]
    assert ranks(names, config(last_layers=20)) == ranks(names, config())


# Masks


@pytest.mark.parametrize("scope", ["row", "matrix", "global"])
@pytest.mark.parametrize("pruning", [0.0, 0.25, 0.3, 0.5, 0.99])
def test_masks_keep_the_same_as_sorting(scope: str, pruning: float) -> None:
    draw = torch.Generator().manual_seed(0)
    importance = [torch.rand(rank, width, generator=draw) * (1 + rank) for rank, width in ((3, 10), (1, 7), (4, 10))]
    actual = masks(importance, config(scope=scope, pruning=pruning))
    assert [mask.shape for mask in actual] == [values.shape for values in importance]
    groups: dict[Any, list[tuple[float, bool]]] = defaultdict(list)
    for m, (values, mask) in enumerate(zip(importance, actual, strict=True)):
        for row in range(len(values)):
            group = {"row": (m, row), "matrix": m, "global": 0}[scope]
            groups[group] += zip(values[row].tolist(), mask[row].tolist(), strict=True)
    for members in groups.values():
        lowest = int(pruning * len(members) + 1e-9)
        assert [keep for _, keep in sorted(members)] == [False] * lowest + [True] * (len(members) - lowest)


def test_equal_importances_lose_the_share_exactly() -> None:
    (mask,) = masks([torch.zeros(3, 8)], config(scope="row", pruning=0.5))
    assert mask.sum(1).tolist() == [4, 4, 4]
