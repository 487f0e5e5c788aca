"""All adapters of a model: attach and detach, count parameters, describe as a layout and rebuild from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from autorank.modeling.layers.adapted_linear import AdaptedLinear, InputConversion
from autorank.modeling.layers.bottleneck import Bottleneck, Bottlenecked
from autorank.modeling.layers.dora import DoraLinear
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.layers.position_queries import (
    exclude_position_queries,
    has_update_on_position_queries,
    restore_position_queries,
)

FACTORS = ("A", "B", "e", "u", "m", "A0", "B0")


def attach(
    model: nn.Module, name: str, update: LowRankUpdate, dropout: float = 0.0, position_queries: bool = True
) -> None:
    """Attach an update to a layer, in place.

    Args:
        model: The model.
        name: Name of the layer.
        update: The factors.
        dropout: Probability of dropout on the input of the update.
        position_queries: False leaves DeBERTa's position queries unadapted, if this layer computes them.
    """
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    kind = AdaptedLinear if update.m is None else DoraLinear
    siblings = (layer.convert for layer in owner.children() if isinstance(layer, AdaptedLinear))
    layer = kind(getattr(owner, child), update, dropout, next(siblings, None))
    setattr(owner, child, layer)
    if not position_queries and has_update_on_position_queries(owner, child):
        layer.position_queries = False
        exclude_position_queries(owner)


def attach_bottleneck(model: nn.Module, name: str, bottleneck: Bottleneck, twice: bool = False) -> None:
    """Attach a bottleneck to a module, in place.

    Args:
        model: The model.
        name: Name of the module, one of `bottleneck.insertion_points`.
        bottleneck: The bottleneck.
        twice: Apply the block's LayerNorm before the bottleneck too.
    """
    model.set_submodule(name, Bottlenecked(model.get_submodule(name), bottleneck, twice))


def share_conversions(
    model: nn.Module, conversions: Mapping[str, InputConversion] | None = None
) -> list[RemovableHandle]:
    """Let frozen layers beside adapted ones (keys beside queries) use the same conversion of their common input.

    Args:
        model: The model with its adapters, on a GPU, computing in 16 bits.
        conversions: Conversion of the inputs of the layers in a module, by its name; by default those of the adapters.

    Returns:
        The handles of the hooks.
    """
    if conversions is None:
        conversions = {name.rpartition(".")[0]: layer.convert for name, layer in adapted(model).items()}
    return [
        layer.register_forward_pre_hook(lambda _, inputs, convert=convert: (convert(inputs[0]), *inputs[1:]))
        for name, convert in conversions.items()
        for layer in model.get_submodule(name).children()
        if type(layer) is nn.Linear
    ]


def detach_all(model: nn.Module) -> None:
    """Remove all updates and bottlenecks."""
    for name, layer in (adapted(model) | bottlenecked(model)).items():
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, child, layer.base)
        restore_position_queries(owner)


def adapted(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The layers with an update, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def bottlenecked(model: nn.Module) -> dict[str, Bottlenecked]:
    """The modules with a bottleneck, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Bottlenecked)}


def added_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of updates and bottlenecks, by name."""
    modules = [*distinct_updates(model), *(module.bottleneck for module in bottlenecked(model).values())]
    ids = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in ids}


def distinct_updates(model: nn.Module) -> list[LowRankUpdate]:
    """The distinct updates, in the order of the layers."""
    return list(dict.fromkeys(layer.update for layer in adapted(model).values()))


def _active_parts(updates: list[LowRankUpdate]) -> dict[int, torch.Tensor]:
    """The active part of each factor that has entries for training only, by id. Such factors are not shared."""
    parts: dict[int, torch.Tensor] = {}
    for update in updates:
        if not (update.active is update.mask_A is update.mask_B is None):
            for factor, part in zip((update.A, update.B, update.e), update.active_parts(), strict=True):
                if part is not None:
                    parts[id(factor)] = part
    return parts


def stored_tensors(model: nn.Module, head: Collection[str] = ()) -> Iterator[torch.Tensor]:
    """The distinct tensors that the exported adapter stores.

    `e` and `u` are folded into B, and not counted, if B is trained and no other update uses it.

    Args:
        model: The model with its adapters.
        head: Names of the head's parameters, which are left out.

    Yields:
        The tensors; shared ones once.
    """
    updates = distinct_updates(model)
    users = Counter(id(update.B) for update in updates)
    foldable = [update for update in updates if update.B.requires_grad and users[id(update.B)] == 1]
    still_used = {id(vector) for update in updates if update not in foldable for vector in (update.e, update.u)}
    folded = {id(vector) for update in foldable for vector in (update.e, update.u)} - still_used
    exported = _active_parts(updates) | {id(update.B): update.without_start()[1].detach() for update in foldable}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in head and id(parameter) not in folded:
            yield exported.get(id(parameter), parameter)


def adapter_params(model: nn.Module, head: Collection[str] = ()) -> int:
    """Number of distinct values that the exported adapter stores, without the parameters named in `head`."""
    return sum(values.numel() for values in stored_tensors(model, head))


def nonzero_params(model: nn.Module, head: Collection[str] = ()) -> int:
    """Number of distinct nonzero values that the exported adapter stores, without those of `head`."""
    return sum(int(torch.count_nonzero(values)) for values in stored_tensors(model, head))


def ranks(model: nn.Module) -> dict[str, int]:
    """The rank of each adapted layer, by name."""
    return {name: layer.update.rank for name, layer in adapted(model).items()}


def layout(model: nn.Module, active_only: bool = False) -> dict[str, Any]:
    """The structure of all adapters as plain values: the update of each layer and the factors of each update.

    {"layers": {name: {"update": int, "dropout": float, "position_queries": bool}},
     "updates": [{"scale": float, "A": factor, "B": factor, "e", "u", "m", "A0", "B0": factor | None each,
                  "active": [bool, ...] | None}],
     "factors": [{"shape": [int, ...], "trained": bool}],
     "bottlenecks": {name: {"width": int, "size": int, "activation": str, "twice": bool}}}

    Args:
        model: The model with its adapters.
        active_only: Leave out components that exist only in training.

    Returns:
        The layout as above; factors are indices into `factors`, equal for shared ones.
    """
    updates = distinct_updates(model)
    factors: dict[nn.Parameter, int] = {}
    parts = _active_parts(updates) if active_only else {}

    def number(factor: nn.Parameter | None) -> int | None:
        return None if factor is None else factors.setdefault(factor, len(factors))

    def describe(update: LowRankUpdate) -> dict[str, Any]:
        active = None if active_only or update.active is None else update.active.tolist()
        return {name: number(getattr(update, name)) for name in FACTORS} | {"scale": update.scale, "active": active}

    described = [describe(update) for update in updates]
    order = {update: index for index, update in enumerate(updates)}
    return {
        "layers": {
            name: {"update": order[layer.update], "dropout": layer.dropout, "position_queries": layer.position_queries}
            for name, layer in adapted(model).items()
        },
        "updates": described,
        "factors": [
            {"shape": list(parts.get(id(factor), factor).shape), "trained": factor.requires_grad} for factor in factors
        ],
        "bottlenecks": {
            name: module.bottleneck.describe() | {"twice": module.twice} for name, module in bottlenecked(model).items()
        },
    }


def rebuild(model: nn.Module, layout: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Attach the updates and bottlenecks of a layout, with zeros as values; load the values with `load_tensors`.

    Args:
        model: The model without adapters; changed in place.
        layout: The structure, a result of `layout`.
        device: Device of the factors.
    """
    for name, described in layout.get("bottlenecks", {}).items():  # absent in files without bottlenecks
        width, size, activation = (described[key] for key in ("width", "size", "activation"))
        attach_bottleneck(model, name, Bottleneck(width, size, activation, device), described["twice"])
    factors = [
        nn.Parameter(torch.zeros(factor["shape"], device=device), requires_grad=factor["trained"])
        for factor in layout["factors"]
    ]

    def build(update: dict[str, Any]) -> LowRankUpdate:
        numbers = {name: update.get(name) for name in FACTORS}
        A, B, e, u, m, A0, B0 = (None if number is None else factors[number] for number in numbers.values())
        active = None if update.get("active") is None else torch.tensor(update["active"], device=device)
        assert A is not None and B is not None
        start = None if A0 is None or B0 is None else (A0, B0)
        return LowRankUpdate(A, B, update["scale"], e, u, active, m=m, start=start)

    updates = [build(update) for update in layout["updates"]]
    for name, layer in layout["layers"].items():
        attach(model, name, updates[layer["update"]], layer["dropout"], layer.get("position_queries", True))


def tensors(model: nn.Module, active_only: bool = False) -> dict[str, torch.Tensor]:
    """All tensors that differ from the base model: trained parameters and all factors.

    Args:
        model: The model with its adapters.
        active_only: Leave out components that exist only in training.

    Returns:
        The tensors by parameter name.
    """
    updates = distinct_updates(model)
    factors = {id(parameter) for update in updates for parameter in update.parameters()}
    parts = _active_parts(updates) if active_only else {}
    return {
        name: parts.get(id(parameter), parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or id(parameter) in factors
    }


@torch.no_grad()
def load_tensors(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Copy values into parameters.

    Args:
        model: The model; changed in place.
        values: The values by parameter name.

    Raises:
        KeyError: The model has no parameter of this name.
    """
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)
