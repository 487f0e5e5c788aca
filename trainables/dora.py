"""DoRA: the direction of every row of a weight is LoRA's, its norm is trained by itself.

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv 2402.09353); see
autorank/modeling/layers/dora.py. Defaults are LoRA's: alpha is twice the rank, as in the authors' scripts.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.layers import dora
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.lora import UniformConfig, new_update


class DoRAConfig(UniformConfig):
    """DoRA's settings: those of LoRA updates that all have one rank."""


class DoRA(AllocationMethod[DoRAConfig]):
    """W' = m · (W0 + alpha / rank · B A) with rows brought to norm 1 first; m starts as the norms of W0's rows."""

    name = "dora"
    summary = "LoRA for the rows' directions; their norms are trained by themselves"
    source = "Liu et al. 2024, arXiv 2402.09353"
    Config: ClassVar[type[DoRAConfig]] = DoRAConfig

    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            update = new_update(features(layer), self.config.rank, self.config.alpha, run)
            update.m = nn.Parameter(dora.squared_row_norms(layer).sqrt())
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    def adapter_params(cls, config: DoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) + out."""
        sizes = shapes(model, config.targets).values()
        total = sum(config.rank * (rows_in + rows_out) + rows_out for rows_in, rows_out in sizes)
        return total, total
