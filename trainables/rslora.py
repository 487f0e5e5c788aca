"""rsLoRA: LoRA scaled by one over the square root of the rank, so that large ranks learn as fast as small ones.

Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA" (arXiv 2312.03732). Everything else,
including the defaults, is as in LoRA.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from autorank.modeling.adapters import adapted
from autorank.run_context import RunContext
from trainables.lora import LoRA, LoRAConfig


class RsLoRAConfig(LoRAConfig):
    """rsLoRA's settings."""

    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / √rank")


class RsLoRA(LoRA):
    """ΔW = alpha / √rank · B A for each target layer."""

    name = "rslora"
    summary = "LoRA scaled by alpha / √rank"
    source = "Kalajdzievski 2023, arXiv 2312.03732"
    Config: ClassVar[type[RsLoRAConfig]] = RsLoRAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        super().prepare(run)
        for layer in adapted(run.model).values():
            layer.update.scale = self.config.alpha / math.sqrt(layer.update.rank)
