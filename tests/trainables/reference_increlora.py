"""A plain IncreLoRA (Zhang et al. 2023) in its published order of operations, one component at a time.

A step of the published trainer (FeiyuZhang98/IncreLoRA), numbered from 0:

    1. backward pass of the loss and γ times the penalty over every component of a layer, reserves included
    2. the norm of the gradients is clipped
    3. in step 0 only, every layer gets its first reserves
    4. while the budget is not spent, every layer is scored; when an allocation is due, components are activated, and
       the parameters that begin to train (of activated and new components) become a parameter group
    5. the optimizer updates the parameters that have a gradient; the new group has none yet
    6. the scheduler steps; a new group gets a separate learning-rate curve, from zero, over the remaining steps
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autorank.spec import TrainSpec
from tests.trainables.reference_training import ReferenceTraining

DEFAULTS = {
    "components": None, "interval": None, "growth": 0.4, "first": 2, "alpha": 32, "orthogonality": 0.1, "beta1": 0.85,
    "beta2": 0.85, "score_norm": "sqrt", "scale": "rank", "advance_learning": True, "schedule": "restart",
    "published": False,
}  # fmt: skip
RESERVE = 1e-5


@dataclass(eq=False)
class Component:
    """e · b aᵀ."""

    a: nn.Parameter  # in
    b: nn.Parameter  # out
    e: nn.Parameter  # a number


class ReferenceIncreLoRA(ReferenceTraining):
    """See `ReferenceTraining`. Every component's factors are separate Parameters.

    Attributes:
        active, reserve: Layer name -> components, oldest first.
        smoothed, uncertainty: Layer name -> the score's two moving averages.
        allocations: (step, layer name -> components gained) of each allocation.
    """

    def __init__(self, train_spec: TrainSpec) -> None:
        super().__init__(train_spec)
        self.settings = DEFAULTS | self.settings
        self.gamma = self.settings["orthogonality"]
        count = len(self.layers)
        self.target = math.floor(self.settings["mean_rank"] * count + 0.5)
        self.components = self.settings["components"] or max(1, int(self.settings["mean_rank"]) // 2)
        self.interval = self.settings["interval"] or self._interval()
        self.active: dict[str, list[Component]] = {}
        self.reserve: dict[str, list[Component]] = {name: [] for name in self.layers}
        for name in self.layers:
            (component,) = self.active[name] = self._new_components(name, 1)
            self.optimizer.add_param_group({"params": [component.e, component.a, component.b]})
        self.smoothed = dict.fromkeys(self.layers, 0.0)
        self.uncertainty = dict.fromkeys(self.layers, 0.0)
        self.allocations: list[tuple[int, dict[str, int]]] = []
        for group in self.optimizer.param_groups:
            group["curve"] = (0, self.total_steps)
            self._follow(group)

    def _interval(self) -> int:
        total, rounds = len(self.layers), 0
        while total < self.target:
            total += min(min(self.settings["top_h"], len(self.layers)) * self.components, self.target - total)
            rounds += 1
        intervals = rounds - 1 + int(self.settings["first"])
        return math.floor(float(self.settings["growth"]) * self.total_steps / intervals)

    def _new_components(self, name: str, count: int, e: float = 0.0, trained: bool = True) -> list[Component]:
        A, B = self.draw(self.layers[name], count)
        return [
            Component(
                nn.Parameter(A[i].clone(), requires_grad=trained),
                nn.Parameter(B[:, i].clone(), requires_grad=trained),
                nn.Parameter(torch.tensor(e), requires_grad=e == 0.0 and trained),
            )
            for i in range(count)
        ]

    def _reserves(self, name: str) -> list[Component]:
        """As many as a layer gains at a time; advance learning trains their a and b, otherwise they are frozen."""
        learning = self.settings["advance_learning"]
        return self._new_components(name, self.components, RESERVE if learning else 0.0, trained=learning)

    @property
    def total(self) -> int:
        return sum(len(components) for components in self.active.values())

    @property
    def ranks(self) -> dict[str, int]:
        return {name: len(components) for name, components in self.active.items()}

    def scale(self, name: str) -> float:
        rank = 1 if self.settings["scale"] == "fixed" else len(self.active[name])
        return float(self.settings["alpha"]) / (rank + (1e-5 if self.settings["published"] else 0.0))

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        components = self.active[name] + self.reserve[name]
        return torch.stack([c.a for c in components]), torch.stack([c.b for c in components], dim=1)

    def delta_weight(self, name: str) -> Tensor:
        A, B = self.factors(name)
        e = torch.stack([c.e for c in self.active[name] + self.reserve[name]])
        return self.scale(name) * (B @ torch.diag(e) @ A)

    def evaluated(self, name: str) -> Tensor:
        """ΔW in evaluation, out x in, without the reserves."""
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

    def before_step(self, step: int, deltas: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        """Items 3 and 4 of the module's docstring."""
        if self.total >= self.target:
            return
        starting: list[nn.Parameter] = []
        if step == 0:
            for name in self.layers:
                self.reserve[name] = self._reserves(name)
                starting += self._learning(self.reserve[name])
        self._score(deltas, gradients)
        if step >= self.settings["first"] * self.interval and step % self.interval == 0 and step > 0:
            starting += self._allocate(step)
        if starting:
            self.optimizer.add_param_group({"params": starting, "curve": None})

    def _score(self, deltas: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        beta1, beta2 = self.settings["beta1"], self.settings["beta2"]
        for name in self.layers:
            importance = (deltas[name] * gradients[name]).abs().sum().item()
            size = deltas[name].numel()
            importance /= {"sqrt": math.sqrt(size), "mean": size, "none": 1}[self.settings["score_norm"]]
            self.smoothed[name] = beta1 * self.smoothed[name] + (1 - beta1) * importance
            deviation = abs(importance - self.smoothed[name])
            self.uncertainty[name] = beta2 * self.uncertainty[name] + (1 - beta2) * deviation

    def _allocate(self, step: int) -> list[nn.Parameter]:
        """Activate components; returns the parameters that begin to train."""
        scores = {name: self.smoothed[name] * self.uncertainty[name] for name in self.layers}
        best = sorted(self.layers, key=lambda name: -scores[name])[: self.settings["top_h"]]
        gains: dict[str, int] = {}
        for name in best:
            remaining = self.target - self.total - sum(gains.values())
            if remaining > 0:
                gains[name] = min(self.components, remaining)
        self.allocations.append((step, gains))
        spent = self.total + sum(gains.values()) == self.target
        starting: list[nn.Parameter] = []
        for name in self.layers:
            for _ in range(gains.get(name, 0)):
                component = self.reserve[name].pop(0)
                trained = [component.a, component.b] if component.a.requires_grad else []
                for factor in (component.e, component.a, component.b):
                    factor.requires_grad_(True)
                starting += [f for f in (component.e, component.a, component.b) if all(f is not k for k in trained)]
                self.active[name].append(component)
            if name in gains and (self.settings["published"] or not spent):
                self.reserve[name] += (fresh := self._reserves(name))
                starting += self._learning(fresh)
        if spent and self.settings["published"]:
            for component in (c for components in self.reserve.values() for c in components):
                component.e.data.zero_()
        elif spent:
            self.reserve = {name: [] for name in self.layers}
        return starting

    def _preserve(self, step: int) -> None:
        """Compensate for the smaller scale of layers that gained components; ours, after the optimizer step."""
        last, gains = self.allocations[-1] if self.allocations else (-1, {})
        for name, count in gains.items() if last == step else ():
            old = self.active[name][:-count]
            for component in old:
                component.e.data *= len(self.active[name]) / len(old)

    @staticmethod
    def _learning(reserves: list[Component]) -> list[nn.Parameter]:
        """The parameters of new reserves that begin to train."""
        return [factor for c in reserves for factor in (c.a, c.b) if factor.requires_grad]

    def set_rates(self, step: int) -> None:
        """Nothing to do: `after_step` of the previous step has set them."""

    def after_step(self, step: int) -> None:
        """Item 6. Without a restart, a later group has the first group's curve (paper) or a constant rate (code)."""
        if self.settings["scale"] == "rank-preserving":
            self._preserve(step)
        for group in self.optimizer.param_groups:
            if group["curve"] is not None:
                age, length = group["curve"]
                group["curve"] = (age + 1, length)
            elif self.settings["schedule"] == "restart":
                group["curve"] = (0, self.total_steps - step - 1)
            elif self.settings["schedule"] == "original":
                group["curve"] = self.optimizer.param_groups[0]["curve"]
            self._follow(group)

    def _follow(self, group: dict[str, Any]) -> None:
        peak = self.settings["learning_rate"]
        age, length = group["curve"] or (self.warmup_steps, 0)
        if group["curve"] is None:
            group["lr"] = peak
        elif age < self.warmup_steps:
            group["lr"] = peak * age / max(1, self.warmup_steps)
        else:
            group["lr"] = peak * max(0.0, (length - age) / max(1, length - self.warmup_steps))
