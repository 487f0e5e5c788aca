"""Updates in the form of a singular value decomposition, B · diag(e) · A, for IncreLoRA, AdaLoRA and ElaLoRA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling.layers.batched_factors import BatchedFactors, gradient_rows, rows
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.run_context import RunContext
from trainables.configs import AllLinearConfig

DEVIATION = 0.02  # standard deviation of the initial A and B in the code of all three papers
PUBLISHED_SCALE = 1e-5  # added to the rank in alpha / rank by the code of all three papers


class TripletConfig(AllLinearConfig):
    """Settings of the three methods; alpha, γ and the decays are those of IncreLoRA's and AdaLoRA's MRPC scripts."""

    mean_rank: float = Field(8.0, gt=0, description="final rank, averaged over layers: the budget")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    orthogonality: float = Field(0.1, ge=0, description="γ, weight of the penalty that keeps A and B orthogonal")
    beta1: float = Field(0.85, ge=0, lt=1, description="decay of the moving average of importance")
    beta2: float = Field(0.85, ge=0, lt=1, description="decay of the moving average of its uncertainty")


def total_rank(mean_rank: float, layers: int) -> int:
    """Return the total rank of a budget, rounded to the nearest integer, halves up.

    Raises:
        AutorankError: The total is 0.
    """
    total = int(mean_rank * layers + 0.5)
    if not total:
        raise AutorankError(f"mean_rank {mean_rank:g} is a total rank of 0 for {layers} layers. Raise mean_rank.")
    return total


def draw(shape: tuple[int, int], rank: int, run: RunContext) -> tuple[Tensor, Tensor]:
    """Draw A and B from a normal distribution.

    Args:
        shape: (in, out) of the layer.
        rank: Number of components.
        run: The run, whose generator is used.

    Returns:
        A (rank x in) and B (out x rank), on the run's device.
    """
    A = torch.empty(rank, shape[0]).normal_(0, DEVIATION, generator=run.generator)
    B = torch.empty(shape[1], rank).normal_(0, DEVIATION, generator=run.generator)
    return A.to(run.device), B.to(run.device)


def new_triplet(shape: tuple[int, int], rank: int, scale: float, run: RunContext) -> LowRankUpdate:
    """Create an update of triplets whose e are zero.

    Args:
        shape: (in, out) of the layer.
        rank: Number of triplets.
        scale: Factor of the update.
        run: The run, whose generator is used.

    Returns:
        The update, on the run's device.
    """
    A, B = draw(shape, rank, run)
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), scale, nn.Parameter(torch.zeros(rank, device=run.device)))


class Sensitivity:
    """AdaLoRA's score of triplets (Zhang et al. 2023, eq. 8 to 10, as in its code).

    I = |w · dL/dw| for every entry w of A, e and B. Ī is the moving average of I (β1), U that of |I - Ī| (β2). The
    score of a triplet is Ī · U of its e plus the means of Ī · U over its row of A and its column of B.

    Args:
        updates: The updates.
        beta1: Decay of Ī.
        beta2: Decay of U.

    Attributes:
        stacks: The layout in which entries of all updates are stacked.
        smoothed: Ī of all entries.
        uncertainty: U of all entries.
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
        """Update the averages after an optimizer step, while the gradients of the step still exist."""
        weights = self.stacks.stack(self._views())
        gradients = self.stacks.stack([view for update in self._updates for view in gradient_rows(update)])
        for w, g, smoothed, uncertainty in zip(weights, gradients, self.smoothed, self.uncertainty, strict=True):
            now = w.mul_(g).abs_()
            smoothed.lerp_(now, 1 - self._beta1)
            uncertainty.lerp_(now.sub_(smoothed).abs_(), 1 - self._beta2)

    def scores(self) -> Tensor:
        """Return the scores of all triplets, concatenated over the updates."""
        entries = [(i * u).mean(1) for i, u in zip(self.smoothed, self.uncertainty, strict=True)]
        parts = self.stacks.split(entries)
        return torch.cat([a + b + e for a, b, e in zip(parts[::3], parts[1::3], parts[2::3], strict=True)])

    def follow(self, kept: Sequence[Tensor]) -> None:
        """Adapt the averages to changed updates, whose first triplets are now `kept` (indices) and all others new."""
        before, self.stacks = self.stacks, self._layout()
        for values in (self.smoothed, self.uncertainty):
            now = [torch.zeros_like(view) for view in self._views()]
            for i, (part, old) in enumerate(zip(now, before.split(values), strict=True)):
                part[: len(kept[i // 3])] = old[kept[i // 3]]
            values[:] = self.stacks.stack(now)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return copies of the averages."""
        return {
            "sensitivity": [values.clone() for values in self.smoothed],
            "uncertainty": [values.clone() for values in self.uncertainty],
        }

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Restore averages from `state_dict`."""
        for current, stored in ((self.smoothed, state["sensitivity"]), (self.uncertainty, state["uncertainty"])):
            for values, saved in zip(current, stored, strict=True):
                values.copy_(saved)
