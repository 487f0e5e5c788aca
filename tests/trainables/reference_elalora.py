"""A plain ElaLoRA (Chang et al. 2025) in float64: every triplet has three separate Parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autorank.spec import TrainSpec
from tests.trainables.reference_training import ReferenceTraining

DEFAULTS = {
    "alpha": 16, "orthogonality": 0.1, "beta1": 0.85, "beta2": 0.85, "initial": 0.26, "final": 0.34, "rounds": 9,
    "moved": 4, "candidates": 2, "scheduler": True,
}  # fmt: skip


@dataclass(eq=False)
class Triplet:
    """One component: a (in), b (out), e (scalar), and the moving averages of |w · dL/dw| of each."""

    a: nn.Parameter
    b: nn.Parameter
    e: nn.Parameter
    smoothed: list[Tensor] = field(default_factory=list)
    uncertainty: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.smoothed = [torch.zeros_like(w) for w in self.parameters]
        self.uncertainty = [torch.zeros_like(w) for w in self.parameters]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [self.a, self.b, self.e]

    def observe(self, beta1: float, beta2: float) -> None:
        for n, w in enumerate(self.parameters):
            assert w.grad is not None
            importance = (w.detach() * w.grad).abs()
            self.smoothed[n] = beta1 * self.smoothed[n] + (1 - beta1) * importance
            self.uncertainty[n] = beta2 * self.uncertainty[n] + (1 - beta2) * (importance - self.smoothed[n]).abs()

    def score(self) -> float:
        a, b, e = (i * u for i, u in zip(self.smoothed, self.uncertainty, strict=True))
        return (e + a.mean() + b.mean()).item()


class ReferenceElaLoRA(ReferenceTraining):
    """See `ReferenceTraining`.

    Attributes:
        triplets: Layer name -> its current triplets.
        scores: Layer name -> scores of its triplets at the start of the last round.
        moved: Step -> number of ranks that moved after it.
        fixed: The step at which the final phase begins.
    """

    def __init__(self, train_spec: TrainSpec) -> None:
        super().__init__(train_spec)
        self.model.double()
        self.settings = s = DEFAULTS | self.settings
        self.gamma = s["orthogonality"]
        self.scale = s["alpha"] / s["mean_rank"]
        total = int(s["mean_rank"] * len(self.layers) + 0.5)
        self.triplets: dict[str, list[Triplet]] = {}
        for number, (name, layer) in enumerate(self.layers.items()):
            rank = len(range(number, total, len(self.layers)))  # one rank to each layer in turn
            A, B = self.draw(layer, rank)
            self.triplets[name] = [self._triplet(A[i], B[:, i], 0.0) for i in range(rank)]
        self.scores: dict[str, list[float]] = {}
        self.moved: dict[int, int] = {}
        self.begins = int(s["initial"] * self.total_steps)
        self.fixed = self.total_steps - int(s["final"] * self.total_steps)
        self.interval = (self.fixed - 1 - self.begins) // s["rounds"]

    def _triplet(self, a: Tensor, b: Tensor, e: float) -> Triplet:
        triplet = Triplet(
            nn.Parameter(a.double().clone()), nn.Parameter(b.double().clone()), nn.Parameter(torch.tensor(e).double())
        )
        self.train(triplet.parameters, start=0)
        return triplet

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        triplets = self.triplets[name]
        return torch.stack([t.a for t in triplets]), torch.stack([t.b for t in triplets], dim=1)

    def delta_weight(self, name: str) -> Tensor:
        parts = [t.e * torch.outer(t.b, t.a) for t in self.triplets[name]]
        return torch.stack(parts).sum(0).mul(self.scale)

    def after_step(self, step: int) -> None:
        for triplets in self.triplets.values():
            for triplet in triplets:
                triplet.observe(self.settings["beta1"], self.settings["beta2"])
        number, remainder = divmod(step - self.begins, self.interval)
        if remainder == 0 and 1 <= number <= self.settings["rounds"]:
            self._round(step, number / self.settings["rounds"])

    def _round(self, step: int, progress: float) -> None:
        s = self.settings
        move = round(s["moved"] * (1 - progress**3)) if s["scheduler"] else s["moved"]
        self.scores = {name: [triplet.score() for triplet in triplets] for name, triplets in self.triplets.items()}
        candidates: list[tuple[float, str, Triplet]] = []
        for name, triplets in self.triplets.items():
            ranked = sorted(zip(self.scores[name], triplets, strict=True), key=lambda pair: pair[0])
            candidates += [
                (score, name, triplet) for score, triplet in ranked[: s["candidates"]] if triplet in triplets
            ]
            if len(triplets) <= s["candidates"]:
                candidates.pop()  # a layer's best triplet stays
        ranked_all = sorted(candidates, key=lambda candidate: candidate[0])
        lowest, highest = ranked_all[:move], ranked_all[::-1][:move]
        for _, name, triplet in lowest:
            self.triplets[name].remove(triplet)
        for name, layer in self.layers.items():
            for _ in [winner for _, winner, _ in highest if winner == name]:
                assert isinstance(layer.base, nn.Linear)
                self._grow(name, layer.base)
        self.moved[step] = len(lowest)

    @torch.no_grad()
    def _grow(self, name: str, layer: nn.Linear) -> None:
        A, B = self.factors(name)
        new = []
        for width, basis in ((layer.in_features, A), (layer.out_features, B.T)):
            v = torch.randn(width, generator=self.generator, dtype=torch.float32).double()
            v = v - sum(row * (row @ v) for row in basis)
            new.append(v / (v.square().sum().sqrt() + 1e-6))
        self.triplets[name].append(self._triplet(new[0], new[1], 1e-13))
