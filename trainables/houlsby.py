"""Houlsby adapters: bottlenecks after the attention and after the feed-forward layer of every block.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP" (arXiv 1902.00751). For placement and variants see
`autorank/modeling/layers/bottleneck.py`. The activation is swish and LayerNorms are frozen, as in AdapterHub and in
AdaLoRA's code, from which the sizes for DeBERTaV3-base are (the paper also trains the LayerNorms). Weights are drawn
from a normal distribution with standard deviation 0.01, truncated at two standard deviations (the paper's), and biases
are zero, so the bottlenecks are nearly the identity at the start.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.adapters import attach_bottleneck
from autorank.modeling.layers.bottleneck import Activation, Bottleneck, InsertionPoint, insertion_points, parameters
from autorank.run_context import RunContext

DEVIATION = 0.01


class HoulsbyConfig(MethodConfig):
    """Settings of bottleneck adapters."""

    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate (paper: 3e-5, 3e-4 and 3e-3)")
    size: int = Field(64, ge=1, description="width of the bottleneck (paper: 8, 64 and 256)")


class Houlsby(AllocationMethod[HoulsbyConfig]):
    """Two bottlenecks per block."""

    name = "houlsby"
    summary = "Bottlenecks after attention and feed-forward layers"
    source = "Houlsby et al. 2019, arXiv 1902.00751"
    Config: ClassVar[type[HoulsbyConfig]] = HoulsbyConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        for point in insertion_points(run.model):
            attach_bottleneck(run.model, point.name, new_bottleneck(point, self.config.size, "silu", DEVIATION, run))

    @classmethod
    @override
    def adapter_params(cls, config: HoulsbyConfig, model: nn.Module) -> tuple[int, int]:
        """Σ (2 · width · size + size + width) over both sub-layers of each block."""
        total = parameters(insertion_points(model), config.size)
        return total, total


def new_bottleneck(
    point: InsertionPoint, size: int, activation: Activation, deviation: float, run: RunContext
) -> Bottleneck:
    """Create a bottleneck.

    Args:
        point: Where it will be attached.
        size: Width of the bottleneck.
        activation: The activation function between the projections.
        deviation: Standard deviation of the initial weights.
        run: The run, from whose generator the weights are drawn.

    Returns:
        The bottleneck, on the run's device.
    """
    bottleneck = Bottleneck(point.width, size, activation, run.device)
    bottleneck.initialize(deviation, run.generator)
    return bottleneck
