"""Pads updates with zeros to one rank: inference servers such as vLLM require one rank and one alpha.

A layer of rank r < R gets R - r rows of zeros in A and columns of zeros in B. The scale is multiplied into B, so alpha
is R and PEFT's alpha / r is 1. If any layer of a kind is adapted, all layers of that kind get an update, of zeros if
necessary: servers stack the layers of a kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import ends_with, features, kind, linear_layers

Factors = dict[str, tuple[Tensor, Tensor]]  # layer -> A (rank x in), B (out x rank)


@torch.no_grad()
def pad_factors(model: nn.Module, updates: Mapping[str, LowRankUpdate]) -> Factors:
    """A and B of every layer of the adapted kinds, all of the highest rank, with B · A = ΔW.

    Args:
        model: The base model, without its updates.
        updates: Layer name -> update, of rank 1 or more.

    Returns:
        Layer name -> A (rank x in) and B (out x rank).
    """
    folded = {name: update.folded() for name, update in updates.items()}
    rank = max(len(down) for down, _ in folded.values())
    kinds = {kind(name) for name in updates}
    factors = {}
    for name, layer in linear_layers(model).items():
        if kind(name) in kinds:
            inner, outer = features(layer)
            A, B = torch.zeros(rank, inner), torch.zeros(outer, rank)
            if name in folded:
                down, up = folded[name]
                A[: len(down)], B[:, : len(down)] = down, updates[name].scale * up
            factors[name] = A, B
    return factors


def shortest_suffixes(model: nn.Module, names: Collection[str]) -> list[str]:
    """The shortest suffixes (`q_proj`) that match these modules and no others, as PEFT's `target_modules`.

    Args:
        model: The base model.
        names: Full names of modules in it.

    Returns:
        Sorted suffixes, or the full names where no suffixes match exactly these modules.
    """
    all_names = [name for name, _ in model.named_modules()]
    for parts in range(1, 1 + max(name.count(".") for name in names)):
        suffixes = {".".join(name.split(".")[-parts:]) for name in names}
        matched = {name for name in all_names if any(ends_with(name, suffix) for suffix in suffixes)}
        if matched == set(names):
            return sorted(suffixes)
    return sorted(names)
