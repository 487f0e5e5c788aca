"""Updates in the form of a singular value decomposition, B · diag(e) · A: IncreLoRA, AdaLoRA and ElaLoRA share them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import TargetedConfig
from autorank.modeling.layers.batched_factors import BatchedFactors, gradient_rows, rows
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.run_context import RunContext

DEVIATION = 0.02  # of the normal distribution that A and B are drawn from; all three papers' code


class TripletConfig(TargetedConfig):
    """Settings of all three; alpha, γ and both memories as in the first two papers' scripts for MRPC."""

    targets: str = Field("all-linear", description="adapted layers: attention-qv, attention, ffn, all-linear or names")
    mean_rank: float = Field(8.0, gt=0, description="final rank, averaged over layers: the budget")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")
    orthogonality: float = Field(0.1, ge=0, description="γ, weight of the penalty that keeps A and B orthogonal")
    beta1: float = Field(0.85, ge=0, lt=1, description="memory of the smoothed importance")
    beta2: float = Field(0.85, ge=0, lt=1, description="memory of its uncertainty")


def whole(mean_rank: float, layers: int) -> int:
    """The total rank of a budget: the nearest whole number, halves up.

    Raises:
        AutorankError: that is none at all.
    """
    total = int(mean_rank * layers + 0.5)
    if not total:
        raise AutorankError(f"mean_rank {mean_rank:g} gives {layers} layers no rank at all; 1 would give each one.")
    return total


def draw(shape: tuple[int, int], rank: int, run: RunContext) -> tuple[Tensor, Tensor]:
    """A (rank x in) and B (out x rank), Gaussian, from the run's generator. shape: (in, out)."""
    A = torch.empty(rank, shape[0]).normal_(0, DEVIATION, generator=run.generator)
    B = torch.empty(shape[1], rank).normal_(0, DEVIATION, generator=run.generator)
    return A.to(run.device), B.to(run.device)


def new_triplet(shape: tuple[int, int], rank: int, scale: float, run: RunContext) -> LowRankUpdate:
    """A fresh update whose singular values are zero."""
    A, B = draw(shape, rank, run)
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), scale, nn.Parameter(torch.zeros(rank, device=run.device)))


PUBLISHED_SCALE = 1e-5  # added to the rank that alpha is divided by, in all three papers' code


class Sensitivity:
    """How much the loss depends on every triplet: AdaLoRA's score (Zhang et al. 2023, eq. 8 to 10), as its code has it.

    I = |w · dL/dw| of every entry w of A, e and B; Ī smooths I (β1), U smooths |I - Ī| (β2). A triplet's score is Ī · U
    of its e plus the means of Ī · U over its row of A and its column of B.

    Attributes:
        smoothed, uncertainty: Ī and U of all entries, stacked as `stacks` says.
    """

    def __init__(self, updates: Sequence[LowRankUpdate], beta1: float, beta2: float) -> None:
        self._updates, self._beta1, self._beta2 = updates, beta1, beta2
        self.stacks = self._layout()
        zeros = [torch.zeros_like(w) for w in self.stacks.stack(self._views())]
        self.smoothed, self.uncertainty = zeros, [values.clone() for values in zeros]

    def _views(self) -> list[Tensor]:
        return [view.detach() for update in self._updates for view in rows(update)]

    def _layout(self) -> BatchedFactors:
        return BatchedFactors([(view.shape[0], view.shape[1]) for view in self._views()])

    @torch.no_grad()
    def observe(self) -> None:
        """The weights have moved, the step's gradients are still there."""
        weights = self.stacks.stack(self._views())
        gradients = self.stacks.stack([view for update in self._updates for view in gradient_rows(update)])
        for w, g, smoothed, uncertainty in zip(weights, gradients, self.smoothed, self.uncertainty, strict=True):
            now = w.mul_(g).abs_()
            smoothed.lerp_(now, 1 - self._beta1)
            uncertainty.lerp_(now.sub_(smoothed).abs_(), 1 - self._beta2)

    def scores(self) -> Tensor:
        """The scores of all updates' triplets, one update after the other."""
        entries = [(i * u).mean(1) for i, u in zip(self.smoothed, self.uncertainty, strict=True)]
        parts = self.stacks.split(entries)
        return torch.cat([a + b + e for a, b, e in zip(parts[::3], parts[1::3], parts[2::3], strict=True)])

    def follow(self, kept: Sequence[Tensor]) -> None:
        """The updates have kept these triplets (indices), in this order, and what else they hold now is new."""
        before, self.stacks = self.stacks, self._layout()
        for values in (self.smoothed, self.uncertainty):
            now = [torch.zeros_like(view) for view in self._views()]
            for i, (part, old) in enumerate(zip(now, before.split(values), strict=True)):
                part[: len(kept[i // 3])] = old[kept[i // 3]]
            values[:] = self.stacks.stack(now)

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {
            "sensitivity": [values.clone() for values in self.smoothed],
            "uncertainty": [values.clone() for values in self.uncertainty],
        }

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        for ours, theirs in ((self.smoothed, state["sensitivity"]), (self.uncertainty, state["uncertainty"])):
            for values, saved in zip(ours, theirs, strict=True):
                values.copy_(saved)
