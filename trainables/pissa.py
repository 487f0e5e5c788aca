"""PiSSA: LoRA that starts as the principal part of the weight, which is removed from the frozen base.

Meng et al. 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models"
(arXiv 2404.02948), eq. 2 to 4: of W0 = U diag(S) Vᵀ the first `rank` directions give B = U √S and A = √S Vᵀ, and the
rest of W0 is the frozen base. Here base models are shared between runs and never changed, so B A minus its initial
value is added to W0 instead, which is the same function. The scale is 1, as in the authors' scripts (alpha equals the
rank). There is neither dropout nor weight decay of A and B, as in the scripts, because they would remove principal
directions of the base.

The directions of layers with more than 1024 features on both sides come from a randomized SVD (Halko et al. 2011, arXiv
0909.4061) with a fixed seed, as the paper proposes ("fast SVD"). Those of smaller layers come from an exact SVD.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import attach
from autorank.modeling.layers.frozen_weight import matrix
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.cached_tensors import cached

EXACT = 1024  # features on the smaller side of a layer up to which the SVD is exact
OVERSAMPLED, ITERATIONS = 32, 8  # settings of the randomized SVD; 8 iterations: between the paper's 4 and 16
STORED = 32  # the number of directions in the cache is a multiple of this


class PiSSAConfig(TargetedConfig):
    """PiSSA's settings."""

    rank: int = Field(8, ge=1, description="rank of every update")


class PiSSA(AllocationMethod[PiSSAConfig]):
    """W' = W0 - B0 A0 + B A, where B A starts at B0 A0, the best approximation of W0 of this rank."""

    name = "pissa"
    summary = "LoRA initialized with the principal directions of the weight"
    source = "Meng et al. 2024, arXiv 2404.02948"
    Config: ClassVar[type[PiSSAConfig]] = PiSSAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        rank = self.config.rank
        for name, layer in run.layers.items():
            if rank > min(features(layer)):
                raise AutorankError(
                    f"pissa: rank {rank} is greater than the number of singular values of {name}, "
                    f"{min(features(layer))}. Lower rank."
                )
        stored = -(-rank // STORED) * STORED
        starts = cached(run, self.name, [list(run.layers), stored], lambda: principal(run.layers, stored))
        factors: dict[str, nn.Parameter] = {}
        for name in run.layers:
            A, B = starts[f"{name}.A"][:rank], starts[f"{name}.B"][:, :rank].contiguous()
            frozen = nn.Parameter(A.clone(), requires_grad=False), nn.Parameter(B.clone(), requires_grad=False)
            update = LowRankUpdate(nn.Parameter(A.clone()), nn.Parameter(B.clone()), 1.0, start=frozen)
            attach(run.model, name, update)
            factors |= {f"{name}.update.A": update.A, f"{name}.update.B": update.B}
        run.optimizer.add_group(factors, weight_decay=0.0)

    @classmethod
    @override
    def adapter_params(cls, config: PiSSAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        total = config.rank * sum(sum(shape) for shape in shapes(model, config.targets).values())
        return total, total


def principal(layers: dict[str, nn.Module], rank: int) -> dict[str, Tensor]:
    """Compute the principal directions of each layer's weight.

    The sign of a direction is the one that makes its largest entry in A positive.

    Args:
        layers: The layers by name.
        rank: Number of directions; at most the number of singular values.

    Returns:
        √S Vᵀ (`name.A`, rank x in) and U √S (`name.B`, out x rank) of each layer.
    """
    factors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        U, S, Vh = decomposed(matrix(layer), rank)
        root, A, B = S[:rank].sqrt(), Vh[:rank], U[:, :rank]
        largest = A.gather(1, A.abs().argmax(dim=1, keepdim=True)).flatten()
        root_signed = root * largest.sign()
        factors |= {f"{name}.A": root_signed[:, None] * A, f"{name}.B": B * root_signed}
    return factors


def decomposed(weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and Vᵀ of a weight, out x in, with at least `rank` directions, which are the first ones."""
    smaller = min(weight.shape)
    if smaller <= max(EXACT, 2 * (rank + OVERSAMPLED)):
        exact: tuple[Tensor, Tensor, Tensor] = torch.linalg.svd(weight, full_matrices=False)
        return exact
    with torch.random.fork_rng(devices=[weight.device] if weight.device.type == "cuda" else []):
        torch.manual_seed(0)
        U, S, V = torch.svd_lowrank(weight, q=rank + OVERSAMPLED, niter=ITERATIONS)
    return U, S, V.mT
