"""DoRA: the direction of each row of a weight is trained by LoRA, and its norm as a separate parameter.

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv 2402.09353); see
`autorank/modeling/layers/dora.py`. The defaults are LoRA's: alpha is twice the rank, as in the authors' scripts. The
norms have no weight decay (see `undecayed` in `autorank/training/optimization/optimizer.py`).
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.layers import dora
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.lora import UniformConfig, new_update


class DoRAConfig(UniformConfig):
    """DoRA's settings: those of LoRA updates of equal rank."""


class DoRA(AllocationMethod[DoRAConfig]):
    """W' = m · (W0 + alpha / rank · B A) with normalized rows; m starts as the norms of W0's rows."""

    name = "dora"
    summary = "LoRA for the directions of rows; their norms are separate parameters"
    source = "Liu et al. 2024, arXiv 2402.09353"
    Config: ClassVar[type[DoRAConfig]] = DoRAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            update = new_update(features(layer), self.config.rank, self.config.alpha, run)
            update.m = nn.Parameter(dora.squared_row_norms(layer).sqrt())
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: DoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) + out."""
        sizes = shapes(model, config.targets).values()
        total = sum(config.rank * (rows_in + rows_out) + rows_out for rows_in, rows_out in sizes)
        return total, total
