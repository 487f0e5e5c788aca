"""LoRA: one rank for every layer. The baseline with which every allocation method is compared.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). The defaults are those of
microsoft/LoRA's scripts for RoBERTa-base (rank 8, alpha 16, query and value).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling import rank_map
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.configs import LowRankConfig, RetrainConfig


class UniformConfig(LowRankConfig):
    """Settings of LoRA updates of equal rank."""

    rank: int = Field(8, ge=1, description="rank of every update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")


class LoRAConfig(RetrainConfig, UniformConfig):
    """LoRA's settings. The ranks of `retrain`, if it is given, replace `rank`."""


class LoRA(AllocationMethod[LoRAConfig]):
    """ΔW = alpha / rank · B A for each target layer: A Kaiming-uniform, B zero."""

    name = "lora"
    summary = "One rank for every layer; the baseline"
    source = "Hu et al. 2021, arXiv 2106.09685"
    Config: ClassVar[type[LoRAConfig]] = LoRAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        for name, rank in ranks(self.config, run.layers).items():
            update = new_update(features(run.layers[name]), rank, self.config.alpha, run)
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: LoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        sizes = shapes(model, config.targets)
        total = sum(rank * sum(sizes[name]) for name, rank in ranks(config, sizes).items())
        return total, total


def ranks(config: LoRAConfig, layers: Collection[str]) -> dict[str, int]:
    """Return the rank of each layer: `config.rank`, or that of the rank map `config.retrain`."""
    return rank_map.read_for(config.retrain, layers) if config.retrain else dict.fromkeys(layers, config.rank)


def new_update(shape: tuple[int, int], rank: int, alpha: float, run: RunContext) -> LowRankUpdate:
    """Create a LoRA update: A Kaiming-uniform, B zero.

    Args:
        shape: (in, out) of the layer.
        rank: Rank of the update.
        alpha: The update is scaled by alpha / rank.
        run: The run, from whose generator A is drawn.

    Returns:
        The update, on the run's device.
    """
    return LowRankUpdate.lora(*shape, rank, alpha, run.generator, run.device)
