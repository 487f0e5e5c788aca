"""The adapted layers of a model: found by sets or names, with their shapes and kinds."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from torch import nn

# Ends of layers' names, by the role of the layer in its block. If several match, the longest one decides: BERT's
# `attention.output.dense` is an output projection, not feed-forward.
ROLES = {
    "query": ("query", "query_proj", "q_proj", "q_lin", "q", "q_b_proj", "q_head", "q_proj.linear", "project_q", "Wq"),
    "key": ("key", "key_proj", "k_proj", "k_lin", "k", "k_head", "k_proj.linear", "project_k", "Wk"),
    "value": ("value", "value_proj", "v_proj", "v_lin", "v", "v_head", "v_proj.linear", "project_v", "Wv"),
    # key and value in one matrix: the latent attention of DeepSeek
    "key_value": ("kv_b_proj",),
    # query, key and value in one matrix: GPT-2; ModernBERT; Phi-3; GPT-NeoX, Falcon and BLOOM; DeBERTa (v1)
    "fused": ("c_attn", "Wqkv", "qkv_proj", "query_key_value", "self.in_proj"),
    "output": (
        "attention.output.dense", "out_lin", "o_proj", "attn.out_proj", "self_attn.out_proj",
        "encoder_attn.out_proj", "attention.out_proj", "o", "attn.Wo", "attn.c_proj", "attention.dense",
        "self_attention.dense", "self_attn.dense", "post_proj", "o_proj.linear", "cross_attn.out_proj",
        "multi_head_attention.dense", "self_attention.attention_out",
    ),
    "ffn": (
        "intermediate.dense", "output.dense", "lin1", "lin2", "gate_proj", "up_proj", "down_proj",
        "gate_up_proj", "fc1", "fc2", "wi", "wi_0", "wi_1", "wo", "mlp.Wi", "mlp.Wo", "mlp.c_fc", "mlp.c_proj",
        "dense_h_to_4h", "dense_4h_to_h", "ffn", "ffn_output", "fc_in", "fc_out", "feed_forward.w1",
        "feed_forward.w2", "feed_forward.w3", "feed_forward.intermediate", "feed_forward.output", "ffn.linear_1",
        "ffn.linear_2", "ff.layer_1", "ff.layer_2", "ffn.0", "ffn.2", "ffn.proj_up", "ffn.proj_up_gate",
        "ffn.proj_down", "shared_mlp.input_linear", "shared_mlp.output_linear", "w_in.w_0", "w_in.w_1", "ffn.w_out",
    ),
}  # fmt: skip
# Sets of layers and their roles. A set that needs a part of a fused layer contains the whole layer.
SETS = {
    "query": ("query", "fused"),
    "key": ("key", "key_value", "fused"),
    "value": ("value", "key_value", "fused"),
    "attention-qv": ("query", "value", "key_value", "fused"),
    "attention": ("query", "key", "value", "key_value", "fused", "output"),
    "ffn": ("ffn",),
}
ALL_LINEAR = "all-linear"
NUMBERED = re.compile(r"\.\d+\.")  # in the names of modules inside blocks
_PASSED: WeakKeyDictionary[nn.Module, dict[str, tuple[int, int]]] = WeakKeyDictionary()


def kind(name: str) -> str:
    """The kind of a layer: its name without block numbers, equal for the same matrix of all blocks."""
    return re.sub(r"\.\d+(?=\.)", "", name)


def block(name: str) -> str:
    """The numbered block of a layer: its name up to the first number (`encoder.layer.3`); empty if there is none."""
    match = re.match(r".*?\.\d+(?=\.)", name)
    return match[0] if match else ""


def features(layer: nn.Module) -> tuple[int, int]:
    """Input and output features of a linear layer, which may be a Conv1D of transformers (GPT-2)."""
    if hasattr(layer, "in_features"):
        return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    return int(layer.nx), int(layer.nf)  # type: ignore[arg-type]


def shapes(model: nn.Module, targets: str) -> dict[str, tuple[int, int]]:
    """Input and output features of the layers that `targets` selects.

    Args:
        model: The model, on any device including the meta device.
        targets: Sets and names of layers, see `find`.

    Returns:
        (in, out) of each layer, by name.

    Raises:
        AutorankError: A set or name matches no layer.
    """
    return {name: features(layer) for name, layer in find(model, targets).items()}


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers inside the numbered blocks, by name: without head, pooler and embedding projections."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and NUMBERED.search(name)
    }


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers through which text passes, by name: without vision and audio towers, for example.

    A linear layer of a class of its own may do more than its weight says (routers return two tensors): not adaptable.
    """
    passed = _passed(model)
    layers = linear_layers(model)
    if not passed:
        return layers
    return {name: layer for name, layer in layers.items() if passed.get(name) == features(layer)}


def _passed(model: nn.Module) -> dict[str, tuple[int, int]]:
    """The modules through which text passes, empty if unknown; see `dry_pass.modules_on_text_path`. Cached by model."""
    from transformers import PreTrainedModel

    from autorank.modeling.forward import dry_pass

    if not isinstance(model, PreTrainedModel):
        return {}
    if model not in _PASSED:
        create = partial(type(model), model.config)  # without adapters, and not quantized
        _PASSED[model] = dry_pass.modules_on_text_path(dry_pass.build(create)) or {}
    return _PASSED[model]


def fused_experts(model: nn.Module) -> list[str]:
    """The kinds of parameters that hold the weights of all experts of a mixture: experts x in x out."""
    from torch.nn.modules.conv import _ConvNd

    names = (
        f"{name}.{parameter_name}"
        for name, module in model.named_modules()
        if NUMBERED.search(f"{name}.") and not isinstance(module, _ConvNd)
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    )
    return sorted({kind(name) for name in names})


def unadapted(model: nn.Module, targets: str) -> str | None:
    """Sentences about weights that stay unadapted although `targets` seems to include them; None if there are none."""
    parts = {part.strip() for part in targets.split(",") if part.strip()}
    return " ".join(filter(None, [_unadapted_experts(model, parts), _unadapted_blocks(model, parts)])) or None


def _unadapted_blocks(model: nn.Module, parts: set[str]) -> str | None:
    """A sentence about blocks with another mixer than attention, in hybrid models (LFM2, Qwen3.5)."""
    if not parts or not parts <= SETS.keys() - {"ffn"}:
        return None
    layers = [name for name in adaptable_layers(model) if role(name) != "ffn"]  # which XLM has in blocks of their own
    blocks = {block(name) for name in layers}
    adapted = {block(name) for name in layers if any(_matches(name, part) for part in parts)}
    if adapted == blocks:
        return None
    return (
        f"Not adapted: {len(blocks - adapted)} of {len(blocks)} blocks, which have no layer of "
        f"{', '.join(sorted(parts))}. targets={ALL_LINEAR} includes them."
    )


def _unadapted_experts(model: nn.Module, parts: set[str]) -> str | None:
    experts = fused_experts(model)
    if not experts or not parts & {"ffn", ALL_LINEAR}:
        return None
    return (
        f"Not adapted: the experts of this model ({', '.join(experts)}), whose weights are one tensor for all experts "
        "and not linear layers."
    )


@cache  # a search needs the same layers for every proposal
def role(name: str) -> str | None:
    """The role of a layer in its block: a key of `ROLES`; None if its name is unknown."""
    matches = [(len(end), role) for role, ends in ROLES.items() for end in ends if ends_with(name, end)]
    return max(matches)[1] if matches else None


def find(model: nn.Module, targets: str) -> dict[str, nn.Module]:
    """Find the layers that `targets` selects.

    Args:
        model: The model, on any device including the meta device.
        targets: Sets and names, separated by commas. The sets work for all known architectures: `query`, `key`,
            `value`, `attention-qv` (query and value), `attention` (query, key, value and output projection, also of
            cross-attention), `ffn` (feed-forward), `all-linear`. If an architecture has query, key and value in one
            matrix (GPT-2, ModernBERT), a set with one of them selects the whole matrix. A name is the end of a layer's
            dotted name (`dense`, `attention.output.dense`).

    Returns:
        The layers by name, in the model's order.

    Raises:
        AutorankError: A set or name matches no layer; the message lists the available kinds of layers.
    """
    layers = adaptable_layers(model)
    parts = [part.strip() for part in targets.split(",") if part.strip()]
    if not parts:
        raise AutorankError(f"targets {targets!r} selects no layer. Use 'query,value' or {ALL_LINEAR!r}.")
    selected: set[str] = set()
    for part in parts:
        matched = {name for name in layers if _matches(name, part)}
        if not matched:
            kinds = sorted({kind(name) for name in layers})
            experts = _unadapted_experts(model, {part})
            raise AutorankError(
                f"Target {part!r} matches no linear layer of this model. "
                + (f"{experts} " if experts else "")
                + f"Use a set ({', '.join(SETS)}, {ALL_LINEAR}) or the end of a layer's name. "
                f"Available: {', '.join(kinds) or 'no linear layer in a numbered block'}."
            )
        selected |= matched
    return {name: layer for name, layer in layers.items() if name in selected}


def _matches(name: str, part: str) -> bool:
    if part in SETS:
        return role(name) in SETS[part]
    return part == ALL_LINEAR or ends_with(name, part)


def ends_with(name: str, ending: str) -> bool:
    """Whether a dotted name ends with `ending`, in whole parts."""
    return f".{name}".endswith(f".{ending}")
