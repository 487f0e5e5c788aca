"""VeRA: frozen random matrices A and B shared by all layers; two vectors per layer are trained.

Kopiczko et al. 2024, "VeRA: Vector-based Random Matrix Adaptation" (arXiv 2310.11454, ICLR 2024).

    ΔW = diag(u) B diag(e) A    A: rank x in, B: out x rank, Kaiming-uniform from their own seed; e (d in the paper)
                                starts at 0.1, u (b in the paper) at zero

The matrices are those that PEFT's VeRA draws from the same seed. Layers smaller than the largest use the first columns
of A and the first rows of B, as in PEFT. Only e and u count as parameters, rank + out per layer. The adapter's file
also contains A and B, so it does not depend on random numbers.

Defaults: rank 512 is that of LoRA-drop's baseline on RoBERTa-base (the paper has 1024 there, and 256 on RoBERTa-large).
The learning rate is one of the paper's for RoBERTa-base, ten times LoRA's.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.configs import LowRankConfig


class VeRAConfig(LowRankConfig):
    """VeRA's settings."""

    learning_rate: float = Field(4e-3, gt=0, description="peak learning rate (paper: 4e-3 to 1e-2 on RoBERTa-base)")
    rank: int = Field(512, ge=1, description="rank of every update")
    d_initial: float = Field(0.1, description="initial value of e (paper)")
    projection_seed: int = Field(
        0, ge=0, description="random seed of A and B, independent of the run's seed (as in PEFT)"
    )


class VeRA(AllocationMethod[VeRAConfig]):
    """Trained vectors that scale one shared pair of random matrices."""

    name = "vera"
    summary = "Trains vectors that scale random matrices shared by all layers"
    source = "Kopiczko et al. 2024, arXiv 2310.11454"
    Config: ClassVar[type[VeRAConfig]] = VeRAConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        sizes = {name: features(layer) for name, layer in run.layers.items()}
        inners, outers = ({size[side] for size in sizes.values()} for side in (0, 1))
        A, B = projections(max(inners), max(outers), self.config.rank, self.config.projection_seed)
        downs = {inner: _frozen(A[:, :inner], run) for inner in inners}
        ups = {outer: _frozen(B[:outer], run) for outer in outers}
        for name, (inner, outer) in sizes.items():
            e = nn.Parameter(torch.full((self.config.rank,), self.config.d_initial, device=run.device))
            u = nn.Parameter(torch.zeros(outer, device=run.device))
            attach(run.model, name, LowRankUpdate(downs[inner], ups[outer], 1.0, e, u), self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: VeRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ (rank + out), since neither e nor u can be merged into a shared B."""
        total = sum(config.rank + out for _, out in shapes(model, config.targets).values())
        return total, total


def projections(in_features: int, out_features: int, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw A, then B, on the CPU.

    Args:
        in_features: Columns of A.
        out_features: Rows of B.
        rank: Rows of A and columns of B.
        seed: Random seed.

    Returns:
        A (rank x in) and B (out x rank).
    """
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.empty(rank, in_features), torch.empty(out_features, rank)
    for matrix in (A, B):
        nn.init.kaiming_uniform_(matrix, generator=generator)
    return A, B


def _frozen(values: Tensor, run: RunContext) -> nn.Parameter:
    copy = values.clone(memory_format=torch.contiguous_format)  # safetensors refuses tensors that share memory
    return nn.Parameter(copy.to(run.device), requires_grad=False)
