"""Houlsby adapters: bottlenecks behind the attention and the feed-forward layer of every block.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP" (arXiv 1902.00751). Placement and forms are told in
`autorank/modeling/layers/bottleneck.py`. swish between the projections and frozen LayerNorms as in AdapterHub and
in AdaLoRA's
code, whose sizes for DeBERTaV3-base these are (the paper trains the LayerNorms too). Weights start from a normal
distribution of deviation 0.01 cut off at two deviations (the paper's), biases at zero: nearly the identity.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.adapters import attach_bottleneck
from autorank.modeling.layers.bottleneck import Activation, Bottleneck, Place, parameters, places
from autorank.run_context import RunContext

DEVIATION = 0.01


class HoulsbyConfig(MethodConfig):
    """Settings of bottleneck adapters."""

    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate (paper: 3e-5, 3e-4 and 3e-3)")
    size: int = Field(64, ge=1, description="width of the bottleneck (paper: 8, 64 and 256)")


class Houlsby(AllocationMethod[HoulsbyConfig]):
    """Two bottlenecks a block."""

    name = "houlsby"
    summary = "Bottlenecks behind attention and feed-forward layers"
    source = "Houlsby et al. 2019, arXiv 1902.00751"
    Config: ClassVar[type[HoulsbyConfig]] = HoulsbyConfig
    sliceable = False

    def prepare(self, run: RunContext) -> None:
        for place in places(run.model):
            attach_bottleneck(run.model, place.name, new_bottleneck(place, self.config.size, "silu", DEVIATION, run))

    @classmethod
    def adapter_params(cls, config: HoulsbyConfig, model: nn.Module) -> tuple[int, int]:
        """Σ 2 · width · size + size + width, over both sub-layers of each block."""
        total = parameters(places(model), config.size)
        return total, total


def new_bottleneck(place: Place, size: int, activation: Activation, deviation: float, run: RunContext) -> Bottleneck:
    """Create a bottleneck for a place, initialized from the run's generator."""
    bottleneck = Bottleneck(place.width, size, activation, run.device)
    bottleneck.initialize(deviation, run.generator)
    return bottleneck
