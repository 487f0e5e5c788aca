"""BitFit: only the model's biases and the head are trained.

Ben Zaken et al. 2022, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models"
(arXiv 2106.10199). All biases are trained, those of linear layers and of normalization layers. Models without biases
(LLaMA, T5) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.base_model import headless
from autorank.run_context import RunContext


class BitFitConfig(MethodConfig):
    """BitFit's settings."""

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (example in the published code)")


class BitFit(AllocationMethod[BitFitConfig]):
    """Trains all biases."""

    name = "bitfit"
    summary = "Trains only the biases, including those of LayerNorms"
    source = "Ben Zaken et al. 2022, arXiv 2106.10199"
    Config: ClassVar[type[BitFitConfig]] = BitFitConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        run.base.unfreeze(biases(dict(run.model.named_parameters())))

    @classmethod
    @override
    def adapter_params(cls, config: BitFitConfig, model: nn.Module) -> tuple[int, int]:
        """All biases except the head's; a pooler that the checkpoint lacks is part of the head."""
        fewest, most = (sum(p.numel() for p in biases(parameters).values()) for parameters in headless(model))
        return fewest, most


def biases(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return the parameters that are biases.

    Raises:
        AutorankError: The model has no biases.
    """
    selected = {name: p for name, p in parameters.items() if name.endswith("bias")}
    if not selected:
        raise AutorankError(
            "bitfit has nothing to train, because this model has no biases. Use another method, such as lora."
        )
    return selected
