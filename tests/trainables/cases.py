"""Every method with the settings that the conformance suite trains it with. A new method joins by a line in METHODS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autorank import method
from tests import tiny

STEPS = 24
LAYERS = 6 * tiny.LAYERS  # all linear ones


@dataclass(frozen=True)
class Case:
    """A method as the suite trains it: STEPS steps, each of them evaluated, all linear layers.

    Attributes:
        total: steps done -> what the ranks add up to.
        stops: steps done when a run is stopped, to go on in another.
        spare: those of them at which there are components for training alone.
        emptied: whether some layers end with rank 0.
        refusals: setting -> a value that it cannot have.
        short: settings whose schedule takes more than STEPS steps; none: the method has no schedule.
    """

    settings: dict[str, Any]
    total: Callable[[int], int]
    stops: tuple[int, ...] = (1, 12, STEPS)
    spare: tuple[int, ...] = ()
    emptied: bool = False
    refusals: dict[str, Any] = field(default_factory=dict)
    short: dict[str, Any] | None = None


def grown(done: int) -> int:
    """5 layers gain 2 ranks each after the steps numbered 6, 9, 12, ..., from 18 to the budget, 54."""
    allocations = max(0, (done - 1) // 3 - 1)
    return min(54, 18 + 10 * allocations)


def shrunk(done: int) -> int:
    """From 54 to 18 on a cubic curve from step 2 to 17, at every even step."""
    last = done - 1
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
        grown,
        stops=(1, 6, 8, 12, 16, 17),
        spare=(1, 6, 8, 12),
        refusals={"mean_rank": 0.5, "top_h": 0, "growth": 1.0, "beta1": 1, "scale": "none"},
        short={"interval": 6},
    ),
    "adalora": Case(
        {"mean_rank": 1, "start_ratio": 3, "initial": 0.1, "final": 0.3, "interval": 2, "dropout": 0.1},
        shrunk,
        stops=(2, 9, 17, 18, 20),
        spare=(9, 17),
        emptied=True,
        refusals={"start_ratio": 0.9, "mean_rank": 0, "final": 1, "initial": 1, "interval": 0, "beta2": -0.1},
        short={"final": 0.03},
    ),
    "prilora": Case(
        {"mean_rank": 2, "slope": 1, "interval": 5, "dropout": 0.1},
        lambda _: 36,
        stops=(4, 5, 12, 23),
        refusals={"slope": 1.5, "pruning": 1, "interval": 0, "scope": "column"},
        short={"interval": 30},
    ),
}
PENALISED = [name for name in METHODS if "orthogonality" in method.find(name).Config.model_fields]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "increlora that draws what it activates": ("increlora", {"advance_learning": False, "schedule": "constant"}),
    "increlora that scores every step": ("increlora", {"score_window": "all", "scale": "rank-preserving"}),
    "prilora whose zeros stay": ("prilora", {"regrow": False, "scope": "global"}),
    "lora-drop that goes on from its probe": ("lora-drop", {"start": "warm"}),
}
