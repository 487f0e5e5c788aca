"""Pfeiffer adapters: one bottleneck per block, after the feed-forward layer.

Pfeiffer et al. 2021, "AdapterFusion: Non-Destructive Task Composition for Transfer Learning" (arXiv 2005.00247), in the
form of AdapterHub's `SeqBnConfig` and AdaLoRA's code. In post-norm encoders the feed-forward layer's LayerNorm is also
applied before the bottleneck, and the residual is the value before it; the activation is relu. In other architectures
the bottleneck receives the output of the feed-forward layer directly (ours: their LayerNorms belong to other
sub-layers). See `autorank/modeling/layers/bottleneck.py`.

Weights are drawn from a normal distribution with standard deviation 0.02 (AdapterHub), truncated at two standard
deviations (ours), and biases are zero, so the bottlenecks are nearly the identity at the start.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.adapters import attach_bottleneck
from autorank.modeling.layers.bottleneck import insertion_points, parameters
from autorank.run_context import RunContext
from trainables.houlsby import new_bottleneck

DEVIATION = 0.02


class PfeifferConfig(MethodConfig):
    """Settings of Pfeiffer adapters."""

    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate (AdapterHub's published adapters)")
    size: int = Field(48, ge=1, description="width of the bottleneck (AdapterHub: a 16th of the model's width)")


class Pfeiffer(AllocationMethod[PfeifferConfig]):
    """One bottleneck per block."""

    name = "pfeiffer"
    summary = "A bottleneck after each feed-forward layer"
    source = "Pfeiffer et al. 2021, arXiv 2005.00247"
    Config: ClassVar[type[PfeifferConfig]] = PfeifferConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        for point in insertion_points(run.model, attention=False):
            bottleneck = new_bottleneck(point, self.config.size, "relu", DEVIATION, run)
            attach_bottleneck(run.model, point.name, bottleneck, twice=point.post_norm)

    @classmethod
    @override
    def adapter_params(cls, config: PfeifferConfig, model: nn.Module) -> tuple[int, int]:
        """Σ (2 · width · size + size + width) over the feed-forward layers of all blocks."""
        total = parameters(insertion_points(model, attention=False), config.size)
        return total, total
