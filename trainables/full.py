"""Full fine-tuning: every parameter of the model is trained. The reference for parameter-efficient methods.

Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (arXiv
1810.04805). There is no adapter: all parameters, including embeddings, are trained as float32 copies of the loaded
weights, and all except the head count as the adapter's.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod, MethodConfig
from autorank.modeling.base_model import headless
from autorank.run_context import RunContext


class FullConfig(MethodConfig):
    """Full fine-tuning's settings."""

    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (model card of DeBERTaV3)")


class Full(AllocationMethod[FullConfig]):
    """Trains all parameters."""

    name = "full"
    summary = "Full fine-tuning: every parameter, embeddings included"
    source = "Devlin et al. 2018, arXiv 1810.04805"
    Config: ClassVar[type[FullConfig]] = FullConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        run.base.unfreeze([name for name, _ in run.model.named_parameters()])

    @classmethod
    @override
    def adapter_params(cls, config: FullConfig, model: nn.Module) -> tuple[int, int]:
        """All parameters except the head's; a pooler that the checkpoint lacks is part of the head."""
        fewest, most = headless(model)
        return sum(p.numel() for p in fewest.values()), sum(p.numel() for p in most.values())
