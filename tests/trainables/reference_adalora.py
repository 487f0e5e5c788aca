"""A plain AdaLoRA (Zhang et al. 2023): triplets are masked, and finally dropped, by element-wise sensitivities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from autorank.spec import TrainSpec
from tests.trainables.reference_training import ReferenceTraining

DEFAULTS = {"start_ratio": 1.5, "alpha": 32, "orthogonality": 0.1, "beta1": 0.85, "beta2": 0.85, "published": False}


class ReferenceAdaLoRA(ReferenceTraining):
    """See `ReferenceTraining`. A layer's tensors keep all triplets; `remaining` lists those that are not dropped.

    Attributes:
        A, B, e: Layer name -> init_r x in, out x init_r, init_r.
        smoothed, uncertainty: Parameter -> element-wise moving averages of |w · dL/dw|.
        remaining: Layer name -> indices of the triplets that are not dropped.
        counted: Layer name -> indices of the triplets that the last masking left; evaluations use only these.
        budgets: Step -> number of triplets that the masking at that step leaves.
    """

    def __init__(self, train_spec: TrainSpec) -> None:
        super().__init__(train_spec)
        self.settings = DEFAULTS | self.settings
        s = self.settings
        self.gamma = s["orthogonality"]
        self.rank = math.ceil(s["start_ratio"] * s["mean_rank"])
        self.scale = float(s["alpha"]) / (self.rank + (1e-5 if s["published"] else 0.0))  # masking does not change it
        self.target = math.floor(s["mean_rank"] * len(self.layers) + 0.5)
        self.t_init = int(s["initial"] * self.total_steps)
        self.t_drop = self.total_steps - int(s["final"] * self.total_steps)
        self.A: dict[str, nn.Parameter] = {}
        self.B: dict[str, nn.Parameter] = {}
        self.e: dict[str, nn.Parameter] = {}
        for name, layer in self.layers.items():
            A, B = self.draw(layer, self.rank)
            self.A[name], self.B[name] = nn.Parameter(A), nn.Parameter(B)
            self.e[name] = nn.Parameter(torch.zeros(self.rank))
        trained = [*self.A.values(), *self.B.values(), *self.e.values()]
        self.train(trained, start=0)
        self.smoothed = {p: torch.zeros_like(p) for p in trained}
        self.uncertainty = {p: torch.zeros_like(p) for p in trained}
        self.remaining = {name: torch.arange(self.rank) for name in self.layers}
        self.counted = dict(self.remaining)
        self.budgets: dict[int, int] = {}

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        remaining = self.remaining[name]
        return self.A[name][remaining], self.B[name][:, remaining]

    def delta_weight(self, name: str) -> Tensor:
        A, B = self.factors(name)
        return (B @ torch.diag(self.e[name][self.remaining[name]]) @ A).mul(self.scale)

    def evaluated(self, name: str) -> Tensor:
        A, B, e = (values[name].detach() for values in (self.A, self.B, self.e))
        components = [e[i] * torch.outer(B[:, i], A[i]) for i in self.counted[name]]
        return sum(components, start=torch.zeros(len(B), A.shape[1])).mul(self.scale)

    def after_step(self, step: int) -> None:
        if step < self.t_drop:
            for parameter in self.smoothed:
                self._observe(parameter)
        if self.settings["published"] and step >= self.t_drop:
            if step > self.t_drop or step % self.settings["interval"] == 0:
                self._mask(step, self.target)
        elif step == self.t_drop:
            self.budgets[step] = self.target
            self.remaining = self.counted = self._best(self.target)
        elif self.t_init < step < self.t_drop and step % self.settings["interval"] == 0:
            fraction = 1 - (step - self.t_init) / (self.t_drop - self.t_init)
            start = self.rank * len(self.layers)
            self._mask(step, int(self.target + (start - self.target) * fraction**3))

    def _mask(self, step: int, budget: int) -> None:
        self.budgets[step] = budget
        self.counted = self._best(budget)
        for name, best in self.counted.items():
            masked = [i for i in range(self.rank) if i not in best]
            self.e[name].data[masked] = 0.0

    def _observe(self, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        beta1, beta2 = self.settings["beta1"], self.settings["beta2"]
        importance = (parameter.detach() * parameter.grad).abs()
        smoothed, uncertainty = self.smoothed[parameter], self.uncertainty[parameter]
        smoothed.copy_(beta1 * smoothed + (1 - beta1) * importance)
        uncertainty.copy_(beta2 * uncertainty + (1 - beta2) * (importance - smoothed).abs())

    def score(self, parameter: nn.Parameter) -> Tensor:
        return self.smoothed[parameter] * self.uncertainty[parameter]

    def triplets(self) -> dict[tuple[str, int], float]:
        """(layer name, index) -> score of the triplet, in the model's order."""
        return {
            (name, i): (
                self.score(self.e[name])[i] + self.score(self.A[name])[i].mean() + self.score(self.B[name])[:, i].mean()
            ).item()
            for name in self.layers
            for i in range(self.rank)
        }

    def _best(self, budget: int) -> dict[str, Tensor]:
        """Layer name -> indices of its triplets among the `budget` best, in ascending order."""
        scores = self.triplets()
        best = sorted(scores, key=lambda triplet: -scores[triplet])[:budget]  # stable: ties go to the earlier one
        numbers = {name: sorted(i for layer, i in best if layer == name) for name in self.layers}
        return {name: torch.tensor(indices, dtype=torch.long) for name, indices in numbers.items()}
