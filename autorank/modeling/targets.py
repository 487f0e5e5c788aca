"""Which layers of a model are adapted: names to modules, shapes and kinds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from torch import nn

# What architectures call the same projection (BERT and RoBERTa; DeBERTa; LLaMA; DistilBERT).
ALIASES = {
    "query": ("query", "query_proj", "q_proj", "q_lin"),
    "key": ("key", "key_proj", "k_proj", "k_lin"),
    "value": ("value", "value_proj", "v_proj", "v_lin"),
}
ALL_LINEAR = "all-linear"


def kind(name: str) -> str:
    """The kind of a layer: its name without the layer's number, equal for the same matrix of all layers."""
    return re.sub(r"\.\d+\.", ".", name)


def block(name: str) -> str:
    """The numbered block that a layer is in: its name up to its first number (`encoder.layer.3`); `` if in none."""
    found = re.match(r".*?\.\d+(?=\.)", name)
    return found[0] if found else ""


def features(layer: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear layer; transformers' Conv1D (GPT-2) keeps its weight as in x out."""
    if hasattr(layer, "in_features"):
        return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    return int(layer.nx), int(layer.nf)  # type: ignore[arg-type]


def shapes(model: nn.Module, targets: str) -> dict[str, tuple[int, int]]:
    """Layer name -> (in, out) of the layers that `targets` names; raises as `find`."""
    return {name: features(layer) for name, layer in find(model, targets).items()}


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear maps inside a model's numbered blocks: no head, pooler or embedding projection among them."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and re.search(r"\.\d+\.", name)
    }


def find(model: nn.Module, targets: str) -> dict[str, nn.Module]:
    """The layers that `targets` names, in the model's order.

    Args:
        targets: `all-linear`, or names separated by commas. A name is one of `query`, `key`, `value`, whatever the
            architecture calls them, or the end of a layer's dotted name (`dense`, `attention.output.dense`).

    Raises:
        AutorankError: a name matches no layer; the message lists the kinds of layers there are.
    """
    layers = linear_layers(model)
    if targets == ALL_LINEAR:
        return layers
    wanted = [part.strip() for part in targets.split(",") if part.strip()]
    found: set[str] = set()
    for part in wanted:
        endings = ALIASES.get(part, (part,))
        matched = {name for name in layers if any(f".{name}".endswith(f".{ending}") for ending in endings)}
        if not matched:
            kinds = sorted({kind(name) for name in layers})
            raise AutorankError(
                f"Target {part!r} matches no linear layer of this model. Give the end of a layer's name, or "
                f"{ALL_LINEAR!r}; there is: {', '.join(kinds)}."
            )
        found |= matched
    if not found:
        raise AutorankError(f"targets {targets!r} names no layer. Use 'query,value' or {ALL_LINEAR!r}.")
    return {name: layer for name, layer in layers.items() if name in found}
