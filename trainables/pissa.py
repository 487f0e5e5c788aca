"""PiSSA: LoRA that starts as the part of the weight with the largest singular values, which the base then lacks.

Meng et al. 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models"
(arXiv 2404.02948), eq. 2 to 4: of W0 = U diag(S) Vᵀ the first `rank` directions give B = U √S and A = √S Vᵀ. The rest
of W0 is the frozen base. Bases are shared between runs here and never written to, so that B A minus its own start is
added instead, which is the same function. The scale is 1, as in the authors' scripts (alpha is the rank), and there is
no dropout, as in them: it would drop what the base itself has most of.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import attach
from autorank.modeling.layers.frozen_weight import matrix
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.cached_tensors import kept

STORED = 32  # directions that are kept for other runs go in steps of so many


class PiSSAConfig(TargetedConfig):
    """PiSSA's settings."""

    rank: int = Field(8, ge=1, description="rank of every update")


class PiSSA(AllocationMethod[PiSSAConfig]):
    """W' = W0 - B0 A0 + B A with B A from B0 A0 on, the best approximation of W0 of this rank."""

    name = "pissa"
    summary = "LoRA that starts as the weight's own principal directions"
    source = "Meng et al. 2024, arXiv 2404.02948"
    Config: ClassVar[type[PiSSAConfig]] = PiSSAConfig

    def prepare(self, run: RunContext) -> None:
        rank = self.config.rank
        for name, layer in run.layers.items():
            if rank > min(features(layer)):
                raise AutorankError(
                    f"pissa's rank {rank} is more than {name} has singular values, {min(features(layer))}; lower rank."
                )
        stored = -(-rank // STORED) * STORED
        starts = kept(run, self.name, [list(run.layers), stored], lambda: principal(run.layers, stored))
        for name in run.layers:
            A, B = starts[f"{name}.A"][:rank], starts[f"{name}.B"][:, :rank].contiguous()
            frozen = nn.Parameter(A.clone(), requires_grad=False), nn.Parameter(B.clone(), requires_grad=False)
            update = LowRankUpdate(nn.Parameter(A.clone()), nn.Parameter(B.clone()), 1.0, start=frozen)
            attach(run.model, name, update)

    @classmethod
    def adapter_params(cls, config: PiSSAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        total = config.rank * sum(sum(shape) for shape in shapes(model, config.targets).values())
        return total, total


def principal(layers: dict[str, nn.Module], rank: int) -> dict[str, Tensor]:
    """Of each layer √S Vᵀ (`name.A`, rank x in) and U √S (`name.B`, out x rank), as many directions as there are.

    Of the two signs that a direction can have, the one with which its largest entry in A is positive.
    """
    found: dict[str, Tensor] = {}
    for name, layer in layers.items():
        U, S, Vh = torch.linalg.svd(matrix(layer), full_matrices=False)
        root, A, B = S[:rank].sqrt(), Vh[:rank], U[:, :rank]
        largest = A.gather(1, A.abs().argmax(dim=1, keepdim=True)).flatten()
        root_signed = root * largest.sign()
        found |= {f"{name}.A": root_signed[:, None] * A, f"{name}.B": B * root_signed}
    return found
