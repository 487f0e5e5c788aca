"""IncreLoRA (Zhang et al. 2023), plainly: a list of rank-1 components a layer, scored at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autorank.spec import TrainSpec
from tests.trainables.slow import SlowLinear, SlowTraining

DEFAULTS = {
    "components": None, "interval": None, "growth": 0.4, "first": 2, "alpha": 32, "orthogonality": 0.1, "beta1": 0.85,
    "beta2": 0.85, "score_norm": "sqrt", "scale": "rank", "advance_learning": True, "schedule": "restart",
}  # fmt: skip
RESERVE = 1e-5
RESERVED = -1  # the first reserves train from step 0, yet are later components to the ablations of the schedule


@dataclass(eq=False)
class Component:
    """e · b aᵀ."""

    a: nn.Parameter  # in
    b: nn.Parameter  # out
    e: nn.Parameter  # a number


class SlowIncreLoRA(SlowTraining):
    """See SlowTraining. Every component's factors are Parameters of their own.

    Attributes:
        active, reserve: layer name -> components, oldest first.
        smoothed, uncertainty: layer name -> the score's two moving averages.
        allocations: (step, layer name -> components given), one an allocation.
    """

    def __init__(self, wanted: TrainSpec) -> None:
        super().__init__(wanted)
        self.settings = DEFAULTS | self.settings
        s = self.settings
        self.gamma = s["orthogonality"]
        count = len(self.layers)
        self.target = math.floor(s["mean_rank"] * count + 0.5)
        self.components = s["components"] or max(1, int(s["mean_rank"]) // 2)
        self.interval = s["interval"] or self._interval()
        self.active: dict[str, list[Component]] = {}
        self.reserve: dict[str, list[Component]] = {}
        fresh, later = [], []
        for name, layer in self.layers.items():
            made = self._draw(layer, 1 + (self.components if s["advance_learning"] else 0), RESERVE)
            made[0].e.data.zero_()
            made[0].e.requires_grad_(True)
            self.active[name], self.reserve[name] = made[:1], made[1:]
            fresh += [made[0].e, made[0].a, made[0].b]
            later += [factor for c in made[1:] for factor in (c.a, c.b)]
        self.train(fresh, start=0)
        if later:
            self.train(later, start=RESERVED)
        self.smoothed = dict.fromkeys(self.layers, 0.0)
        self.uncertainty = dict.fromkeys(self.layers, 0.0)
        self.allocations: list[tuple[int, dict[str, int]]] = []

    def _interval(self) -> int:
        total, rounds = len(self.layers), 0
        while total < self.target:
            total += min(min(self.settings["top_h"], len(self.layers)) * self.components, self.target - total)
            rounds += 1
        intervals = rounds - 1 + int(self.settings["first"])
        return math.floor(float(self.settings["growth"]) * self.total_steps / intervals)

    def _draw(self, layer: SlowLinear, rows: int, e: float) -> list[Component]:
        """New components, all but e trained."""
        A, B = self.draw(layer, rows)
        return [
            Component(
                nn.Parameter(A[i].clone()),
                nn.Parameter(B[:, i].clone()),
                nn.Parameter(torch.tensor(e), requires_grad=False),
            )
            for i in range(rows)
        ]

    @property
    def total(self) -> int:
        return sum(len(components) for components in self.active.values())

    @property
    def ranks(self) -> dict[str, int]:
        return {name: len(components) for name, components in self.active.items()}

    def scale(self, name: str) -> float:
        fixed = self.settings["scale"] == "fixed"
        return float(self.settings["alpha"]) / (1 if fixed else len(self.active[name]))

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        components = self.active[name] + self.reserve[name]
        return torch.stack([c.a for c in components]), torch.stack([c.b for c in components], dim=1)

    def delta_weight(self, name: str) -> Tensor:
        A, B = self.factors(name)
        e = torch.stack([c.e for c in self.active[name] + self.reserve[name]])
        return self.scale(name) * (B @ torch.diag(e) @ A)

    def evaluated(self, name: str) -> Tensor:
        """ΔW in evaluation, out x in: the reserves do not count."""
        return (
            self.scale(name)
            * sum((c.e * torch.outer(c.b, c.a) for c in self.active[name]), start=torch.zeros(())).detach()
        )

    def values(self, name: str) -> dict[str, Tensor]:
        """A, B and e of the active components."""
        active = self.active[name]
        return {
            "A": torch.stack([c.a.detach() for c in active]),
            "B": torch.stack([c.b.detach() for c in active], dim=1),
            "e": torch.stack([c.e.detach() for c in active]),
        }

    def factor(self, step: int, start: int) -> float:
        """`start` is where the group begins to train; what that means for its learning rate, a setting."""
        if start == 0 or self.settings["schedule"] == "restart":
            return super().factor(step, 0 if start == RESERVED else start)
        return 1.0 if self.settings["schedule"] == "constant" else super().factor(step, 0)

    def before_step(self, step: int, deltas: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        if self.total >= self.target:
            return
        beta1, beta2 = self.settings["beta1"], self.settings["beta2"]
        for name in self.layers:
            importance = (deltas[name] * gradients[name]).abs().sum().item()
            size = deltas[name].numel()
            importance /= {"sqrt": math.sqrt(size), "mean": size, "none": 1}[self.settings["score_norm"]]
            self.smoothed[name] = beta1 * self.smoothed[name] + (1 - beta1) * importance
            away = abs(importance - self.smoothed[name])
            self.uncertainty[name] = beta2 * self.uncertainty[name] + (1 - beta2) * away

    def after_step(self, step: int) -> None:
        due = step > 0 and step % self.interval == 0 and step >= self.settings["first"] * self.interval
        if not due or self.total >= self.target:
            return
        scores = {name: self.smoothed[name] * self.uncertainty[name] for name in self.layers}
        best = sorted(self.layers, key=lambda name: -scores[name])[: self.settings["top_h"]]
        given: dict[str, int] = {}
        for name in best:
            room = self.target - self.total - sum(given.values())
            if room > 0:
                given[name] = min(self.components, room)
        self.allocations.append((step, given))
        spent = self.total + sum(given.values()) == self.target
        fresh: list[nn.Parameter] = []
        for name in self.layers:
            if name in given:
                fresh += self._grow(name, given[name], spent)
        self.train(fresh, start=step)
        if self.total == self.target:
            self.reserve = {name: [] for name in self.layers}

    def _grow(self, name: str, count: int, spent: bool) -> list[nn.Parameter]:
        """Give a layer components; returns what begins to train."""
        active, reserve, layer = self.active[name], self.reserve[name], self.layers[name]
        if self.settings["scale"] == "rank-preserving":
            for component in active:
                component.e.data *= (len(active) + count) / len(active)
        if not self.settings["advance_learning"]:
            drawn = self._draw(layer, count, e=0.0)
            active += drawn
            for component in drawn:
                component.e.requires_grad_(True)
            return [factor for c in drawn for factor in (c.a, c.b, c.e)]
        fresh = []
        for _ in range(count):
            component = reserve.pop(0)
            component.e.requires_grad_(True)
            active.append(component)
            fresh.append(component.e)
        if not spent:
            drawn = self._draw(layer, self.components, RESERVE)
            reserve += drawn
            fresh += [factor for c in drawn for factor in (c.a, c.b)]
        return fresh
