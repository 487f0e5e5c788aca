"""The settings with which the conformance suite trains every method. To add a method, add an entry to METHODS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autorank import methods
from tests import tiny_models

STEPS = 24
LAYERS = 6 * tiny_models.LAYERS  # all linear ones


@dataclass(frozen=True)
class Case:
    """How the suite trains a method: for STEPS steps, with an evaluation after each, on all linear layers.

    Attributes:
        total: Number of finished steps -> sum of the ranks; None if it depends on the weights.
        stops: Numbers of finished steps after which a run is stopped and resumed in another.
        spare: The stops at which some components are for training only.
        emptied: Whether some layers end with rank 0.
        low_rank: Whether the method trains low-rank updates: it has ranks and is exported to PEFT.
        exported: Ranks of the exported PEFT adapter per rank of ours.
        starts_at_zero: Whether the updates change nothing until they are trained.
        refusals: Setting -> a value that is refused.
        short: Settings whose schedule takes more than STEPS steps; None if the method has no schedule.
    """

    settings: dict[str, Any]
    total: Callable[[int], int] | None
    stops: tuple[int, ...] = (1, 12, STEPS)
    spare: tuple[int, ...] = ()
    emptied: bool = False
    low_rank: bool = True
    exported: int = 1
    starts_at_zero: bool = True
    refusals: dict[str, Any] = field(default_factory=dict)
    short: dict[str, Any] | None = None


def increlora_total(steps: int) -> int:
    """Ranks after `steps` steps: 5 layers gain 2 each after steps 6, 9, 12, ... (from 0), from 18 up to 54."""
    allocations = max(0, (steps - 1) // 3 - 1)
    return min(54, 18 + 10 * allocations)


def adalora_total(steps: int) -> int:
    """Ranks after `steps` steps: from 54 to 18 on a cubic curve from step 2 to 17, changed at every even step."""
    last = steps - 1
    if last >= 17:
        return 18
    masked = last // 2 * 2
    return 54 if masked <= 2 else int(18 + 36 * (1 - (masked - 2) / 15) ** 3)


METHODS = {
    "lora": Case({"rank": 2, "dropout": 0.1}, lambda _: 36, refusals={"rank": 0, "dropout": 1.5, "learning_rate": 0}),
    "lora-drop": Case(
        {"rank": 2, "dropout": 0.1, "threshold": 0.6, "probe_ratio": 0.3},
        lambda _: 36,
        refusals={"threshold": 1.2, "probe_ratio": 0, "ablation": "all"},
    ),
    "increlora": Case(
        {"mean_rank": 3, "top_h": 5, "components": 2, "interval": 3},
        increlora_total,
        stops=(1, 6, 8, 12, 16, 17),
        spare=(1, 6, 8, 12),
        refusals={"mean_rank": 0.5, "top_h": 0, "growth": 1.0, "beta1": 1, "scale": "none"},
        short={"interval": 6},
    ),
    "adalora": Case(
        {"mean_rank": 1, "start_ratio": 3, "initial": 0.1, "final": 0.3, "interval": 2, "dropout": 0.1},
        adalora_total,
        stops=(2, 9, 17, 18, 20),
        spare=(9, 17),
        emptied=True,
        refusals={"start_ratio": 0.9, "mean_rank": 0, "final": 1, "initial": 1, "interval": 0, "beta2": -0.1},
        short={"final": 0.03},
    ),
    "rslora": Case({"rank": 2, "dropout": 0.1}, lambda _: 36, refusals={"rank": 0, "alpha": 0.0}),
    "dora": Case({"rank": 2, "dropout": 0.1}, lambda _: 36, refusals={"rank": 0, "alpha": -1.0, "dropout": 1.0}),
    "pissa": Case({"rank": 2}, lambda _: 36, exported=2, refusals={"rank": 0, "learning_rate": 0}),
    "eva": Case(
        {"rank": 2, "alpha": 4, "dropout": 0.1, "svd_batch_size": 8},
        lambda _: 36,
        refusals={"rank": 0, "rho": 0.5, "tau": 1.1, "svd_batch_size": 65, "svd_steps": 1},
    ),
    "prilora": Case(
        {"mean_rank": 2, "slope": 1, "interval": 5, "dropout": 0.1},
        lambda _: 36,
        stops=(4, 5, 12, 23),
        refusals={"slope": 1.5, "pruning": 1, "interval": 0, "scope": "column"},
        short={"interval": 30},
    ),
    "gora": Case(
        {"reference_rank": 2, "examples": 30, "dropout": 0.1},
        None,
        starts_at_zero=False,
        refusals={"reference_rank": 0, "max_rank": 0, "gamma": -0.1, "examples": 0, "alpha": 0.0},
    ),
    "elalora": Case(
        {"mean_rank": 3, "initial": 0.1, "final": 0.3, "rounds": 5, "moved": 6, "dropout": 0.1},
        lambda _: 54,
        stops=(1, 5, 6, 12, 13, 20),  # the first round is after the step numbered 4, the last after 12
        refusals={"mean_rank": 0.5, "rounds": 0, "moved": 0, "candidates": 0, "initial": 1, "final": 1, "beta1": 1},
        short={"rounds": 15},
    ),
    "lora-squeeze": Case(
        {"mean_rank": 1, "source_rank": 6, "stages": 3, "initial": 0.1, "final": 0.3, "dropout": 0.1},
        None,  # parameters are the budget: see test_lora_squeeze.py
        stops=(1, 7, 8, 12, 18, 19),  # cuts are after the steps numbered 7, 12 and 17
        emptied=True,
        refusals={"mean_rank": 7, "source_rank": 0, "stages": 0, "initial": 1, "final": 1, "score": "size"},
        short={"stages": 16},
    ),
    "sora": Case(
        {"rank": 2, "threshold": 0.04, "sparse_lambda": 0.1, "dropout": 0.1},
        None,
        spare=(12, STEPS),
        emptied=True,
        refusals={"rank": 0, "threshold": -1.0, "sparse_lambda": -0.5, "first": 1.0},
    ),
    "sparse-adapter": Case(
        {"rank": 2}, lambda _: 36, starts_at_zero=False, refusals={"sparsity": 1.0, "examples": 0, "rank": 0}
    ),
    "vera": Case(
        {"rank": 6, "dropout": 0.1}, lambda _: 108, refusals={"rank": 0, "dropout": 1.5, "projection_seed": -1}
    ),
    "tied-lora": Case({"rank": 2, "dropout": 0.1}, lambda _: 36, refusals={"rank": 0, "alpha": 0.0}),
    "full": Case({"learning_rate": 1e-3}, None, low_rank=False, refusals={"learning_rate": 0}),
    "bitfit": Case({}, None, low_rank=False, refusals={"learning_rate": -1.0}),
    "houlsby": Case({"size": 3}, None, low_rank=False, starts_at_zero=False, refusals={"size": 0}),
    "pfeiffer": Case({"size": 3}, None, low_rank=False, starts_at_zero=False, refusals={"size": 0}),
}
LOW_RANK = [name for name, case in METHODS.items() if case.low_rank]
PENALTIES = ("orthogonality", "sparse_lambda")
PENALIZED = {  # method -> the weight of its penalty
    name: weight for name in METHODS for weight in PENALTIES if weight in methods.find(name).Config.model_fields
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "increlora that draws what it activates": ("increlora", {"advance_learning": False, "schedule": "constant"}),
    "increlora that scores every step": ("increlora", {"score_window": "all", "scale": "rank-preserving"}),
    "increlora as published": ("increlora", {"published": True}),
    "adalora as published": ("adalora", {"published": True}),
    "prilora whose zeros stay": ("prilora", {"regrow": False, "scope": "global"}),
    "prilora that prunes both factors": ("prilora", {"pruned": "both"}),
    "prilora that prunes at random": ("prilora", {"importance": "random", "last_layers": 2}),
    "sora over several thresholds": ("sora", {"schedule": (0.02, 0.08), "layer_norms": True}),
    "lora-squeeze that measures gradients": ("lora-squeeze", {"score": "gradient"}),
    "lora-squeeze that measures inputs": ("lora-squeeze", {"score": "input"}),
    "lora-drop that goes on from its probe": ("lora-drop", {"start": "warm"}),
}
