"""Updates in the form of a singular value decomposition, B · diag(e) · A, that IncreLoRA and AdaLoRA share."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import MethodConfig, RunContext
from autorank.modeling.low_rank import LowRankUpdate

DEVIATION = 0.02  # of the normal distribution that A and B are drawn from; both papers' code


class TripletConfig(MethodConfig):
    """Settings of both methods; alpha, γ and both memories as in both papers' scripts for MRPC."""

    targets: str = Field("all-linear", description="adapted layers: names, or all-linear")
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
