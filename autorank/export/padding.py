"""Updates of one rank for all layers, filled up with zeros: servers such as vLLM want one rank and one alpha.

A layer of rank r < R gets R - r rows of zeros in A and columns of zeros in B, and the scale goes into B, so that alpha
is R and PEFT's alpha / r is 1. Of a kind of layer that is adapted anywhere all layers get an update, if need be of
zeros alone: servers stack the layers of a kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, kind, linear_layers

Factors = dict[str, tuple[Tensor, Tensor]]  # layer -> A (rank x in), B (out x rank)


@torch.no_grad()
def padded(model: nn.Module, updates: Mapping[str, LowRankUpdate]) -> Factors:
    """A and B of every layer of the adapted kinds, all of the highest rank, with B · A = ΔW.

    Args:
        model: without its updates.
        updates: those of its layers, of rank 1 or more.
    """
    folded = {name: update.folded() for name, update in updates.items()}
    rank = max(len(down) for down, _ in folded.values())
    kinds = {kind(name) for name in updates}
    made = {}
    for name, layer in linear_layers(model).items():
        if kind(name) in kinds:
            inner, outer = features(layer)
            A, B = torch.zeros(rank, inner), torch.zeros(outer, rank)
            if name in folded:
                down, up = folded[name]
                A[: len(down)], B[:, : len(down)] = down, updates[name].scale * up
            made[name] = A, B
    return made


def ends(model: nn.Module, names: Collection[str]) -> list[str]:
    """The shortest ends of these modules' names (`q_proj`) that no other module's name has: PEFT's target_modules."""
    everything = [name for name, _ in model.named_modules()]
    for parts in range(1, 1 + max(name.count(".") for name in names)):
        short = {".".join(name.split(".")[-parts:]) for name in names}
        if {name for name in everything if any(f".{name}".endswith(f".{end}") for end in short)} == set(names):
            return sorted(short)
    return sorted(names)
