"""LoRA: one rank for every layer. The control that every allocation method is compared with.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Defaults: microsoft/LoRA's
RoBERTa-base scripts (rank 8, alpha 16, query and value).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.method import AllocationMethod, MethodConfig, RunContext
from autorank.modeling.adapters import attach
from autorank.modeling.low_rank import LowRankUpdate
from autorank.modeling.targets import features, shapes


class LoRAConfig(MethodConfig):
    """LoRA's settings."""

    rank: int = Field(8, ge=1, description="rank of every update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")


class LoRA(AllocationMethod[LoRAConfig]):
    """ΔW = alpha / rank · B A for each target layer: A Kaiming-uniform, B zero."""

    name = "lora"
    summary = "One rank for every layer; the control"
    source = "Hu et al. 2021, arXiv 2106.09685"
    Config: ClassVar[type[LoRAConfig]] = LoRAConfig

    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            attach(run.model, name, new_update(self.config, features(layer), run), self.config.dropout)

    @classmethod
    def adapter_params(cls, config: LoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        total = sum(config.rank * sum(shape) for shape in shapes(model, config.targets).values())
        return total, total


def new_update(config: LoRAConfig, shape: tuple[int, int], run: RunContext) -> LowRankUpdate:
    """A fresh update for a layer of shape (in, out), drawn from the run's generator."""
    return LowRankUpdate.lora(*shape, config.rank, config.alpha, run.generator, run.device)
