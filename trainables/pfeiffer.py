"""Pfeiffer adapters: one bottleneck a block, behind the feed-forward layer.

Pfeiffer et al. 2021, "AdapterFusion: Non-Destructive Task Composition for Transfer Learning" (arXiv 2005.00247), in the
form of AdapterHub's `SeqBnConfig` and of AdaLoRA's code: in post-norm encoders the feed-forward layer's own LayerNorm
stands before the bottleneck as well, and the residual is what came before it; relu between the projections. In other
architectures the bottleneck takes the feed-forward layer's output as it is (ours: their LayerNorms belong to other
sub-layers). See `autorank/modeling/layers/bottleneck.py`.

Weights start from a normal distribution of deviation 0.02 (AdapterHub), cut off at two deviations (ours), biases at
zero: nearly the identity.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.adapters import attach_bottleneck
from autorank.modeling.layers.bottleneck import parameters, places
from autorank.run_context import RunContext
from trainables.houlsby import new_bottleneck

DEVIATION = 0.02


class PfeifferConfig(MethodConfig):
    """Settings of Pfeiffer adapters."""

    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate (AdapterHub's published adapters)")
    size: int = Field(48, ge=1, description="width of the bottleneck (AdapterHub: a 16th of the model's, 768 of BERT)")


class Pfeiffer(AllocationMethod[PfeifferConfig]):
    """One bottleneck a block."""

    name = "pfeiffer"
    summary = "A bottleneck behind each feed-forward layer"
    source = "Pfeiffer et al. 2021, arXiv 2005.00247"
    Config: ClassVar[type[PfeifferConfig]] = PfeifferConfig
    sliceable = False

    def prepare(self, run: RunContext) -> None:
        for place in places(run.model, attention=False):
            bottleneck = new_bottleneck(place, self.config.size, "relu", DEVIATION, run)
            attach_bottleneck(run.model, place.name, bottleneck, twice=place.post_norm)

    @classmethod
    def adapter_params(cls, config: PfeifferConfig, model: nn.Module) -> tuple[int, int]:
        """Σ 2 · width · size + size + width, over the blocks' feed-forward layers."""
        total = parameters(places(model, attention=False), config.size)
        return total, total
