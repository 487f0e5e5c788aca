"""Bottleneck adapters: a small network added to the output of a sub-layer.

    y + up(activation(down(z)))       down: Linear(width, size), up: Linear(size, width)

Each block has two sub-layers, attention and feed-forward. The cross-attention of decoders has no bottleneck, as in
AdapterHub's default. The position depends on the architecture:

    post-norm encoders        h = dropout(dense(x)); at the module with dense, dropout and LayerNorm
    (BERT, RoBERTa, ELECTRA,     z = h, out = LayerNorm(h + bottleneck(h) + residual)                         Houlsby
    DeBERTa)                     z = LayerNorm(h + residual), out = LayerNorm(h + bottleneck(z) + residual)   Pfeiffer

    others (LLaMA, Qwen,      at the last projection of the sub-layer; y = projection(x), z = y
    GPT-2, ModernBERT, BART,
    T5, DistilBERT)

`twice` selects Pfeiffer's form: the LayerNorm of the block, with the same weights, is also applied before the
bottleneck (AdapterHub's `original_ln_before` and `residual_before_ln`; AdaLoRA's code does the same).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling.target_modules import adaptable_layers, ends_with, features, kind

Activation = Literal["relu", "silu"]

# Names of the last projection of attention and of feed-forward layers, except in post-norm encoders.
ATTENTION = ("self_attn.o_proj", "attn.c_proj", "attn.Wo", "self_attn.out_proj", "SelfAttention.o", "attention.out_lin")
FEED_FORWARD = ("mlp.down_proj", "mlp.c_proj", "mlp.Wo", "fc2", "DenseReluDense.wo", "ffn.lin2")


class Bottleneck(nn.Module):
    """Linear(width, size), an activation, Linear(size, width), without the residual connection.

    Args:
        width: Input and output features.
        size: Features of the bottleneck.
        activation: Name of the activation function.
        device: Device of the parameters, which are not initialized.
    """

    def __init__(self, width: int, size: int, activation: Activation, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.down = nn.utils.skip_init(nn.Linear, width, size, device=device)
        self.up = nn.utils.skip_init(nn.Linear, size, width, device=device)
        self.activation: Activation = activation

    def describe(self) -> dict[str, Any]:
        """The constructor's arguments except the device, as plain values."""
        return {"width": self.down.in_features, "size": self.down.out_features, "activation": self.activation}

    @torch.no_grad()
    def initialize(self, deviation: float, generator: torch.Generator) -> None:
        """Initialize weights from a normal distribution truncated at two standard deviations, and biases with zero.

        Args:
            deviation: Standard deviation of the weights.
            generator: Random numbers; values are drawn on the CPU for any device.
        """
        for layer in (self.down, self.up):
            values = torch.empty(layer.weight.shape)
            nn.init.trunc_normal_(values, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
            layer.weight.copy_(values)
            layer.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """Apply the bottleneck to `z`: ... x width, to ... x width."""
        dtype = z.dtype
        if dtype != self.down.weight.dtype and not torch.is_autocast_enabled(z.device.type):
            z = z.to(self.down.weight.dtype)
        out: Tensor = self.up(getattr(F, self.activation)(self.down(z)))
        result: Tensor = out.to(dtype)
        return result


class Bottlenecked(nn.Module):
    """The end of a sub-layer with a bottleneck, see the forms above.

    Args:
        base: A projection, or a post-norm encoder's module with dense, dropout and LayerNorm.
        bottleneck: The bottleneck.
        twice: Apply LayerNorm before the bottleneck too; only for post-norm encoders.
    """

    base: nn.Module
    bottleneck: Bottleneck

    def __init__(self, base: nn.Module, bottleneck: Bottleneck, twice: bool = False) -> None:
        super().__init__()
        self.base = base
        self.bottleneck = bottleneck
        self.twice = twice

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Apply base and bottleneck to `x`.

        Args:
            x: Input of the layer, ... x in.
            residual: Residual stream, ... x width; only in post-norm encoders.

        Returns:
            Output of the layer, ... x width.
        """
        if residual is None:
            y: Tensor = self.base(x)
            return torch.add(y, self.bottleneck(y))
        dense, dropout, norm = self.base.dense, self.base.dropout, self.base.LayerNorm
        h: Tensor = dropout(dense(x))  # type: ignore[operator]
        z = norm(h + residual) if self.twice else h  # type: ignore[operator]
        out: Tensor = norm(h + self.bottleneck(z).to(h.dtype) + residual)  # type: ignore[operator]
        return out

    @property
    def weight(self) -> Tensor:
        """The base's weight; some architectures read it, for example for its data type."""
        return self.base.weight  # type: ignore[return-value]


@dataclass(frozen=True)
class InsertionPoint:
    """A module that a bottleneck can be attached to.

    Attributes:
        name: Name of the module.
        width: Its output features.
        post_norm: Whether the module ends with a LayerNorm.
    """

    name: str
    width: int
    post_norm: bool


def insertion_points(model: nn.Module, attention: bool = True) -> list[InsertionPoint]:
    """Find the modules to attach bottlenecks to.

    Args:
        model: The model, on any device including the meta device.
        attention: Include those of attention, not only of feed-forward layers.

    Returns:
        The insertion points in the model's order.

    Raises:
        AutorankError: The sub-layers of the architecture are unknown; the message lists its layers.
    """
    layers = adaptable_layers(model)
    by_attention: dict[bool, list[InsertionPoint]] = {True: [], False: []}
    for name, layer in layers.items():
        owner, _, last = name.rpartition(".")
        width = features(layer)[1]
        if last == "dense" and all(hasattr(model.get_submodule(owner), part) for part in ("dropout", "LayerNorm")):
            *_, outer, end = owner.split(".")
            if end == "output" and (outer == "attention" or outer.isdigit()):
                by_attention[outer == "attention"].append(InsertionPoint(owner, width, True))
        else:
            for of_attention, endings in ((True, ATTENTION), (False, FEED_FORWARD)):
                if any(ends_with(name, ending) for ending in endings):
                    by_attention[of_attention].append(InsertionPoint(name, width, False))
    if not by_attention[False] or len(by_attention[True]) != len(by_attention[False]):
        raise AutorankError(
            "Bottleneck adapters do not support this architecture: no known output projection of attention and "
            f"feed-forward layers was found. Available: {', '.join(sorted({kind(name) for name in layers}))}. Use a "
            "method with low-rank updates."
        )
    selected = [*by_attention[False], *(by_attention[True] if attention else [])]
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    return sorted(selected, key=lambda point: order[point.name])


def parameters(points: list[InsertionPoint], size: int) -> int:
    """Number of parameters of one bottleneck per insertion point: Σ 2 · width · size + size + width."""
    return sum(2 * point.width * size + size + point.width for point in points)
