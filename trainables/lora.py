"""LoRA: one rank for every layer. The control that every allocation method is compared with.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685). Defaults: microsoft/LoRA's
RoBERTa-base scripts (rank 8, alpha 16, query and value).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, MethodConfig, RunContext
from autorank.modeling import rank_map
from autorank.modeling.adapters import attach
from autorank.modeling.low_rank import LowRankUpdate
from autorank.modeling.targets import features, shapes


class LoRAConfig(MethodConfig):
    """LoRA's settings."""

    rank: int = Field(8, ge=1, description="rank of every update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")


class PlainLoRAConfig(LoRAConfig):
    """With ranks that another method found."""

    retrain: Path | None = Field(None, description="a rank map (JSON) of another run, in place of one rank for all")


class LoRA(AllocationMethod[LoRAConfig]):
    """ΔW = alpha / rank · B A for each target layer: A Kaiming-uniform, B zero."""

    name = "lora"
    summary = "One rank for every layer; the control"
    source = "Hu et al. 2021, arXiv 2106.09685"
    Config: ClassVar[type[LoRAConfig]] = PlainLoRAConfig

    def prepare(self, run: RunContext) -> None:
        for name, rank in self._ranks(self.config, run.layers).items():
            update = new_update(features(run.layers[name]), rank, self.config.alpha, run)
            attach(run.model, name, update, self.config.dropout)

    @staticmethod
    def _ranks(config: LoRAConfig, layers: Collection[str]) -> dict[str, int]:
        if isinstance(config, PlainLoRAConfig) and config.retrain:
            return given_ranks(config.retrain, layers)
        return dict.fromkeys(layers, config.rank)

    @classmethod
    def adapter_params(cls, config: LoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out)."""
        sizes = shapes(model, config.targets)
        total = sum(rank * sum(sizes[name]) for name, rank in cls._ranks(config, sizes).items())
        return total, total


def new_update(shape: tuple[int, int], rank: int, alpha: float, run: RunContext) -> LowRankUpdate:
    """A fresh update for a layer of shape (in, out), drawn from the run's generator."""
    return LowRankUpdate.lora(*shape, rank, alpha, run.generator, run.device)


def given_ranks(path: Path, layers: Collection[str]) -> dict[str, int]:
    """The ranks in a rank map, in the order of `layers`; those of rank 0, or not in it, are left out.

    Raises:
        AutorankError: the map cannot be read, names a layer that is not among `layers`, or has no rank above 0.
    """
    ranks = rank_map.read(path)
    if strange := [name for name in ranks if name not in layers]:
        raise AutorankError(
            f"The rank map {path} names {strange[0]!r}, which is none of the adapted layers. It must come from the "
            "same model, and `targets` must name all its layers (all-linear does)."
        )
    if not any(ranks.values()):
        raise AutorankError(f"The rank map {path} has no rank above 0.")
    return {name: ranks[name] for name in layers if ranks.get(name)}
