"""LoRA: one rank for every layer. The baseline that every allocation method is compared with.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Defaults: microsoft/LoRA's
RoBERTa-base scripts (rank 8, alpha 16, query and value).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling import rank_map
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext


class UniformConfig(TargetedConfig):
    """Settings of LoRA updates that all have one rank."""

    rank: int = Field(8, ge=1, description="rank of every update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")


class LoRAConfig(UniformConfig):
    """LoRA's settings."""

    retrain: Path | None = Field(None, description="a rank map (JSON) of another run, in place of one rank for all")


class LoRA(AllocationMethod[LoRAConfig]):
    """ΔW = alpha / rank · B A for each target layer: A Kaiming-uniform, B zero."""

    name = "lora"
    summary = "One rank for every layer; the baseline"
    source = "Hu et al. 2021, arXiv 2106.09685"
    Config: ClassVar[type[LoRAConfig]] = LoRAConfig

    def prepare(self, run: RunContext) -> None:
        for name, rank in ranks(self.config, run.layers).items():
            update = new_update(features(run.layers[name]), rank, self.config.alpha, run)
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    def adapter_params(cls, config: LoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        sizes = shapes(model, config.targets)
        total = sum(rank * sum(sizes[name]) for name, rank in ranks(config, sizes).items())
        return total, total


def ranks(config: LoRAConfig, layers: Collection[str]) -> dict[str, int]:
    """One for all, or as a rank map gives them."""
    return rank_map.given(config.retrain, layers) if config.retrain else dict.fromkeys(layers, config.rank)


def new_update(shape: tuple[int, int], rank: int, alpha: float, run: RunContext) -> LowRankUpdate:
    """A fresh update for a layer of shape (in, out), drawn from the run's generator."""
    return LowRankUpdate.lora(*shape, rank, alpha, run.generator, run.device)
