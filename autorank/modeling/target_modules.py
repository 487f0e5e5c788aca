"""Which layers of a model are adapted: names to modules, shapes and kinds."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from torch import nn

# The ends of layers' names, by what the layer does in its block. Where several fit, the longest decides: BERT's
# `attention.output.dense` is no `output.dense`.
ROLES = {
    "query": ("query", "query_proj", "q_proj", "q_lin", "q"),
    "key": ("key", "key_proj", "k_proj", "k_lin", "k"),
    "value": ("value", "value_proj", "v_proj", "v_lin", "v"),
    # query, key and value in one matrix: GPT-2; ModernBERT; Phi-3; GPT-NeoX, Falcon and BLOOM; DeBERTa (v1)
    "fused": ("c_attn", "Wqkv", "qkv_proj", "query_key_value", "self.in_proj"),
    "output": (
        "attention.output.dense", "attention.out_lin", "o_proj", "attn.out_proj", "self_attn.out_proj",
        "encoder_attn.out_proj", "attention.out_proj", "o", "attn.Wo", "attn.c_proj", "attention.dense",
        "self_attention.dense", "self_attn.dense",
    ),
    "ffn": (
        "intermediate.dense", "output.dense", "ffn.lin1", "ffn.lin2", "gate_proj", "up_proj", "down_proj",
        "gate_up_proj", "fc1", "fc2", "wi", "wi_0", "wi_1", "wo", "mlp.Wi", "mlp.Wo", "mlp.c_fc", "mlp.c_proj",
        "dense_h_to_4h", "dense_4h_to_h", "ffn", "ffn_output",
    ),
}  # fmt: skip
# Sets of layers, by the roles in them. A fused layer is taken whole wherever a part of it is asked for.
SETS = {
    "query": ("query", "fused"),
    "key": ("key", "fused"),
    "value": ("value", "fused"),
    "attention-qv": ("query", "value", "fused"),
    "attention": ("query", "key", "value", "fused", "output"),
    "ffn": ("ffn",),
}
ALL_LINEAR = "all-linear"


def kind(name: str) -> str:
    """The kind of a layer: its name without the layer's number, equal for the same matrix of all layers."""
    return re.sub(r"\.\d+(?=\.)", "", name)


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


@cache  # a search asks for the same model's layers at every proposal
def role(name: str) -> str | None:
    """What a layer does in its block: a key of `ROLES`; None where no ending is known."""
    fitting = [(len(end), role) for role, ends in ROLES.items() for end in ends if _ends(name, end)]
    return max(fitting)[1] if fitting else None


def find(model: nn.Module, targets: str) -> dict[str, nn.Module]:
    """The layers that `targets` names, in the model's order.

    Args:
        targets: sets and names, separated by commas. Sets, whatever the architecture calls the layers: `query`, `key`,
            `value`, `attention-qv` (query and value), `attention` (query, key, value and output projection, of
            cross-attention too), `ffn` (feed-forward), `all-linear`. Where an architecture has query, key and value in
            one matrix (GPT-2, ModernBERT), a set that has one of them has that matrix, whole. A name is the end of a
            layer's dotted name (`dense`, `attention.output.dense`).

    Raises:
        AutorankError: a set or name matches no layer; the message lists the kinds of layers there are.
    """
    layers = linear_layers(model)
    wanted = [part.strip() for part in targets.split(",") if part.strip()]
    if not wanted:
        raise AutorankError(f"targets {targets!r} names no layer. Use 'query,value' or {ALL_LINEAR!r}.")
    found: set[str] = set()
    for part in wanted:
        matched = {name for name in layers if _matches(name, part)}
        if not matched:
            kinds = sorted({kind(name) for name in layers})
            raise AutorankError(
                f"Target {part!r} matches no linear layer of this model. Give a set ({', '.join(SETS)}, {ALL_LINEAR}) "
                f"or the end of a layer's name; there is: {', '.join(kinds) or 'no linear layer in a numbered block'}."
            )
        found |= matched
    return {name: layer for name, layer in layers.items() if name in found}


def _matches(name: str, part: str) -> bool:
    if part in SETS:
        return role(name) in SETS[part]
    return part == ALL_LINEAR or _ends(name, part)


def _ends(name: str, ending: str) -> bool:
    """Whether `ending` is the last parts of a dotted name, whole parts only."""
    return f".{name}".endswith(f".{ending}")
