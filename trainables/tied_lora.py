"""Tied-LoRA: A and B are tied over the layers, with separate vectors for each layer.

Renduchintala et al. 2024, "Tied-LoRA: Enhancing Parameter Efficiency of LoRA with Weight Tying" (arXiv 2311.09578,
NAACL 2024), in the variant that trains all factors: ΔW = alpha / rank · diag(u) B diag(e) A. The layout is the one that
has the number of parameters that LoRA-drop reports for its baseline (0.15M at rank 56 on RoBERTa-base):

    A: rank x in     one for all kinds and layers
    B: out x rank    one per kind (query, value, ...), tied over the layers
    e: rank          one per layer, for all its kinds
    u: out           one per layer and kind

If targeted layers have several input widths (with `all-linear` the feed-forward output is wider), there is one A per
width, and one e per layer and width.

Ours: alpha and the initial values (A Kaiming-uniform, B zero, e and u one, so the initial function is that of LoRA).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import block, features, kind, shapes
from autorank.run_context import RunContext
from trainables.lora import UniformConfig, new_update


class TiedLoRAConfig(UniformConfig):
    """Tied-LoRA's settings, including LoRA's."""

    rank: int = Field(56, ge=1, description="rank of every update (LoRA-drop's baseline)")


class TiedLoRA(AllocationMethod[TiedLoRAConfig]):
    """One A, one B per kind, and separate vectors for each layer."""

    name = "tied-lora"
    summary = "A and B tied over the layers, scaled by separate vectors for each layer"
    source = "Renduchintala et al. 2024, arXiv 2311.09578"
    Config: ClassVar[type[TiedLoRAConfig]] = TiedLoRAConfig
    sliceable = False

    @override
    def prepare(self, run: RunContext) -> None:
        def parameter(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, device=run.device))

        rank, alpha = self.config.rank, self.config.alpha
        sizes = {name: features(layer) for name, layer in run.layers.items()}
        shared: dict[Any, nn.Parameter] = {}
        for name, owned in owners(sizes).items():
            if owned["A"] not in shared:
                shared[owned["A"]] = new_update(sizes[name], rank, alpha, run).A
            out = sizes[name][1]
            B = shared.setdefault(owned["B"], parameter(0.0, out, rank))
            e = shared.setdefault(owned["e"], parameter(1.0, rank))
            update = LowRankUpdate(shared[owned["A"]], B, alpha / rank, e, parameter(1.0, out))
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: TiedLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """All distinct factors, except e and u that can be merged into a B used by a single layer."""
        sizes = shapes(model, config.targets)
        layers = owners(sizes)
        users = Counter(owned["B"] for owned in layers.values())
        folded = {name for name, owned in layers.items() if users[owned["B"]] == 1}
        counts: dict[Any, int] = {}
        for name, owned in layers.items():
            inner, outer = sizes[name]
            counts |= {owned["A"]: config.rank * inner, owned["B"]: config.rank * outer}
            if name not in folded:
                counts |= {owned["e"]: config.rank, name: outer}
        total = sum(counts.values())
        return total, total


def owners(sizes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Return layer name -> keys of its A, B and e; equal keys share a factor. sizes: layer name -> (in, out)."""
    return {
        name: {"A": ("A", inner), "B": ("B", kind(name), inner, outer), "e": ("e", block(name), inner)}
        for name, (inner, outer) in sizes.items()
    }
