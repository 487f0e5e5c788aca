"""A model whose passes serve several lanes: frozen layers are shared, trained ones are those of each lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autorank.modeling import adapters
from autorank.modeling.base_model import BaseModel
from autorank.modeling.layers.adapted_linear import InputConversion
from autorank.modeling.layers.position_queries import BIAS
from autorank.training.packing.lane_rows import LaneRows
from autorank.training.packing.packed_linear import PackedLinear
from autorank.training.packing.shared_base import SharedBase


def unpackable(model: nn.Module) -> str | None:
    """Why a prepared model cannot be a lane; None if it can.

    Args:
        model: The model with its adapters.

    Returns:
        The reason.
    """
    if adapters.bottlenecked(model):
        return "it trains bottlenecks"
    if not adapters.adapted(model):
        return "it trains no low-rank updates"
    branches = [name for name, module in _trained(model) if next(module.children(), None) is not None]
    return f"it trains parameters of {branches[0]}, which is not a single layer" if branches else None


class PackedModel:
    """The passes of several lanes.

    Args:
        base: The base model, without adapters.
        models: The model of each lane, prepared.

    Attributes:
        model: The packed model.
        rows: The lanes of the current pass; set before each pass.
        layers: Its packed layers.
    """

    def __init__(self, base: BaseModel, models: Sequence[nn.Module]) -> None:
        self.model: nn.Module = SharedBase.of(base).model
        self.model.requires_grad_(False)
        self.rows = LaneRows()
        by_lane = [adapters.adapted(model) for model in models]
        conversions: dict[str, InputConversion] = {}
        for name in dict.fromkeys(name for layers in by_lane for name in layers):
            lanes = [layers.get(name) for layers in by_lane]
            convert = conversions.setdefault(name.rpartition(".")[0], InputConversion())
            self.model.set_submodule(name, PackedLinear(self.model.get_submodule(name), lanes, self.rows, convert))
        for name in dict.fromkeys(name for model in models for name, _ in _trained(model)):
            self.model.set_submodule(name, _PackedModule([model.get_submodule(name) for model in models], self.rows))
        adapters.share_conversions(self.model, conversions)
        self.layers = [module for module in self.model.modules() if isinstance(module, PackedLinear)]
        for module in self.model.modules():
            if hasattr(module, BIAS) and any(isinstance(child, PackedLinear) for child in module.children()):
                setattr(module, BIAS, _bias_of_lanes(module, self.rows))


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules with trained parameters, except updates."""
    updates = tuple(f"{name}." for name in adapters.adapted(model))
    for name, module in model.named_modules():
        trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if trained and not name.startswith(updates):
            yield name, module


class _PackedModule(nn.Module):
    """A module that lanes train, such as a layer of the head: each lane's on its rows.

    Args:
        modules: The module of each lane.
        rows: The lanes of the current pass.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: LaneRows) -> None:
        super().__init__()
        self._lanes = tuple(modules)  # not registered: they belong to the models of the lanes
        self._rows = rows

    @property
    def weight(self) -> Tensor:
        """The weight of the first lane; some architectures read it, for example for its data type."""
        return self._lanes[0].weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the modules of the current pass to `x`: batch x ..."""
        modules = [self._lanes[lane] for lane in self._rows.lanes]
        if not all(type(module) is nn.Linear for module in modules):
            return torch.cat([module(part) for module, part in zip(modules, self._rows.split(x), strict=True)])
        self._rows.check(x)
        weight = torch.stack([module.weight for module in modules])  # type: ignore[misc]
        parts = x.reshape(len(modules), -1, x.shape[-1])
        # transposed, so that the gradient of each weight lies in memory as the weight does
        if modules[0].bias is None:
            y = torch.bmm(weight, parts.mT)
        else:
            bias = torch.stack([module.bias for module in modules])  # type: ignore[misc]
            y = torch.baddbmm(bias[..., None], weight, parts.mT)
        return y.mT.reshape(*x.shape[:-1], -1)


def _bias_of_lanes(attention: Any, rows: LaneRows) -> Callable[..., Tensor]:
    """DeBERTa's attention bias for each lane: its relative positions, which have no rows, pass the lane's layers."""
    bias = getattr(attention, BIAS)
    packed = {name: child for name, child in attention.named_children() if isinstance(child, PackedLinear)}

    def of_lanes(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = []
        try:
            for k, (of_query, of_key) in enumerate(zip(rows.split(query), rows.split(key), strict=True)):
                for name, child in packed.items():
                    layer = child.current[k]
                    alone = layer is None or (name == "query_proj" and not layer.position_queries)
                    setattr(attention, name, child.base if alone or layer is None else layer)
                parts.append(bias(of_query, of_key, *args, **kwargs))
        finally:
            for name, child in packed.items():
                setattr(attention, name, child)
        return torch.cat(parts)

    return of_lanes
