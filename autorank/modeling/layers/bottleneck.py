"""Bottleneck adapters: a small network behind a sub-layer, which is added to what the sub-layer gives.

    y + up(activation(down(z)))       down: Linear(d, size), up: Linear(size, d)

Where it goes (the places of an architecture are the two sub-layers of each block, attention and feed-forward; the
decoder's cross-attention has none, which is AdapterHub's default too):

    post-norm encoders        h = dropout(dense(x)); place: the module with dense, dropout and LayerNorm
    (BERT, RoBERTa, ELECTRA,     z = h, out = LayerNorm(h + bottleneck(h) + residual)                     Houlsby
    DeBERTa)                     z = LayerNorm(h + residual), out = LayerNorm(h + bottleneck(z) + residual)   Pfeiffer

    others (LLaMA, Qwen,      place: the sub-layer's last projection; y = projection(x), z = y
    GPT-2, ModernBERT, BART,
    T5, DistilBERT)

`twice` names Pfeiffer's form: the block's own LayerNorm, with the same weights, stands before the bottleneck as well
(AdapterHub's `original_ln_before` and `residual_before_ln`; AdaLoRA's code does the same).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling.target_modules import features, kind, linear_layers

Activation = Literal["relu", "silu"]

# What the last projection of attention and of the feed-forward layer are called, outside post-norm encoders.
ATTENTION = ("self_attn.o_proj", "attn.c_proj", "attn.Wo", "self_attn.out_proj", "SelfAttention.o", "attention.out_lin")
FEED_FORWARD = ("mlp.down_proj", "mlp.c_proj", "mlp.Wo", "fc2", "DenseReluDense.wo", "ffn.lin2")


class Bottleneck(nn.Module):
    """Linear(width, size), an activation, Linear(size, width); without the residual."""

    def __init__(self, width: int, size: int, activation: Activation, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.down = nn.utils.skip_init(nn.Linear, width, size, device=device)
        self.up = nn.utils.skip_init(nn.Linear, size, width, device=device)
        self.activation: Activation = activation

    def describe(self) -> dict[str, Any]:
        """What makes another one like it, as plain values."""
        return {"width": self.down.in_features, "size": self.down.out_features, "activation": self.activation}

    @torch.no_grad()
    def draw(self, deviation: float, generator: torch.Generator) -> None:
        """Weights normal, cut off at two deviations; biases zero. Drawn on the CPU, whatever the device."""
        for layer in (self.down, self.up):
            values = torch.empty(layer.weight.shape)
            nn.init.trunc_normal_(values, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
            layer.weight.copy_(values)
            layer.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """z: ... x width -> ... x width."""
        dtype = z.dtype
        if dtype != self.down.weight.dtype and not torch.is_autocast_enabled(z.device.type):
            z = z.to(self.down.weight.dtype)
        out: Tensor = self.up(getattr(F, self.activation)(self.down(z)))
        result: Tensor = out.to(dtype)
        return result


class Bottlenecked(nn.Module):
    """A sub-layer's end with a bottleneck, in the forms that the module's text gives.

    Args:
        base: a projection, or a post-norm encoder's module with dense, dropout and LayerNorm.
        twice: LayerNorm before the bottleneck too; only of the second kind.
    """

    base: nn.Module
    bottleneck: Bottleneck

    def __init__(self, base: nn.Module, bottleneck: Bottleneck, twice: bool = False) -> None:
        super().__init__()
        self.base = base
        self.bottleneck = bottleneck
        self.twice = twice

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x: ... x in, residual (post-norm encoders alone): ... x width -> ... x width."""
        if residual is None:
            y: Tensor = self.base(x)
            return torch.add(y, self.bottleneck(y))
        dense, dropout, norm = self.base.dense, self.base.dropout, self.base.LayerNorm
        h: Tensor = dropout(dense(x))  # type: ignore[operator]
        z = norm(h + residual) if self.twice else h  # type: ignore[operator]
        out: Tensor = norm(h + self.bottleneck(z).to(h.dtype) + residual)  # type: ignore[operator]
        return out

    # Some architectures look at their layers' weights, for a dtype for example.
    @property
    def weight(self) -> Tensor:
        return self.base.weight  # type: ignore[return-value]


@dataclass(frozen=True)
class Place:
    """Where a bottleneck can go: the name of a module, the width of what it gives, and whether it normalises."""

    name: str
    width: int
    post_norm: bool


def places(model: nn.Module, attention: bool = True) -> list[Place]:
    """The places behind each block's feed-forward layer and, if asked for, its attention, in the model's order.

    Raises:
        AutorankError: an architecture whose sub-layers are not known here; the message lists its layers.
    """
    layers = linear_layers(model)
    found: dict[bool, list[Place]] = {True: [], False: []}  # of attention?
    for name, layer in layers.items():
        owner, _, last = name.rpartition(".")
        width = features(layer)[1]
        if last == "dense" and all(hasattr(model.get_submodule(owner), part) for part in ("dropout", "LayerNorm")):
            *_, outer, end = owner.split(".")
            if end == "output" and (outer == "attention" or outer.isdigit()):
                found[outer == "attention"].append(Place(owner, width, True))
        else:
            for of_attention, endings in ((True, ATTENTION), (False, FEED_FORWARD)):
                if any(f".{name}".endswith(f".{ending}") for ending in endings):
                    found[of_attention].append(Place(name, width, False))
    if not found[False] or len(found[True]) != len(found[False]):
        raise AutorankError(
            "Bottleneck adapters do not support this architecture: no known output projection of attention and "
            f"feed-forward layers was found. Available: {', '.join(sorted({kind(name) for name in layers}))}. Use a "
            "method with low-rank updates."
        )
    wanted = [*found[False], *(found[True] if attention else [])]
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    return sorted(wanted, key=lambda place: order[place.name])


def parameters(places: list[Place], size: int) -> int:
    """Weights and biases of a bottleneck at each place: Σ 2 · width · size + size + width."""
    return sum(2 * place.width * size + size + place.width for place in places)
