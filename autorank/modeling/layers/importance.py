"""How much the loss depends on each update as a whole: Σ |ΔW ∘ dL/dΔW|, without the two matrices.

The published code (IncreLoRA) materialises ΔW, out x in, in every forward pass to hook its gradient. Here dL/dΔW is
gᵀ x of what passes through the layer anyway, its input x and the gradient g of its output, made tile by tile during
the backward pass, and only in the steps that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from autorank.modeling import gradient_checkpointing
from autorank.modeling.layers.lora_layer import LowRankUpdate

TILE = 1 << 18  # entries of ΔW at a time on a CPU, where they should stay in the cache
TILE_GPU = 1 << 24


class Importance:
    """Σ |ΔW ∘ dL/dΔW| of some updates, measured in the steps between `watch` and `take`.

    Every component takes part, those that do not count too; the loss is whatever runs backward through the layers.
    A layer may be called more than once in a forward pass (DeBERTa's query and key, with the positions). A step of
    several micro-batches sums its gradients first, which needs one out x in matrix an update while it is watched.

    Args:
        updates: each without a factor `u`.
        first_call: take dL/dΔW from the first call of a layer in a forward pass alone, instead of from all (the
            published hook runs once for each call and keeps the value of the last backward pass, that of the first
            call).
    """

    def __init__(self, updates: Sequence[LowRankUpdate], first_call: bool = False) -> None:
        self._updates, self._first_call = updates, first_call
        self._whole = False
        self._handles = [update.register_forward_hook(partial(self._forward, i)) for i, update in enumerate(updates)]
        self.watching = False

    def watch(self, micro_batches: int) -> None:
        """Measure the step that begins now."""
        self.watching, self._whole = True, micro_batches > 1
        self._open = [0] * len(self._updates)
        self._passed: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self._updates]
        self._gradients: list[Tensor | None] = [None] * len(self._updates)
        self._sums = [torch.zeros((), device=update.A.device) for update in self._updates]

    def take(self) -> Tensor:
        """The importance of each update, updates; stops watching."""
        assert not any(self._open), "a layer's output had no gradient, or its forward pass was run twice"
        if self._whole:
            for i, gradient in enumerate(self._gradients):
                if gradient is not None:
                    self._sums[i] = tiled(self._updates[i], lambda part, whole=gradient: whole[part])  # type: ignore[misc]
        self.watching = False
        sums = torch.stack(self._sums)
        del self._sums, self._gradients, self._passed
        return sums

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _forward(self, i: int, update: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        if self.watching and output.requires_grad and not gradient_checkpointing.again():
            ignored = self._first_call and self._open[i] > 0
            self._open[i] += 1
            output.register_hook(partial(self._backward, i, None if ignored else inputs[0].detach()))

    @torch.no_grad()
    def _backward(self, i: int, x: Tensor | None, g: Tensor) -> None:
        """x: ... x in, or None for a call that is ignored; g: ... x out."""
        if x is not None:
            g = g.float() if g.dtype == torch.float16 else g  # fp16's scaled gradients would overflow in the product
            self._passed[i].append((g.flatten(0, -2), x.flatten(0, -2).to(g.dtype)))
        self._open[i] -= 1
        if self._open[i]:
            return
        passed, self._passed[i] = self._passed[i], []

        def gradient(part: slice) -> Tensor:
            return sum(g[:, part].t() @ x for g, x in passed)  # type: ignore[return-value]

        if not self._whole:
            self._sums[i] = tiled(self._updates[i], gradient)
        elif (sum_so_far := self._gradients[i]) is None:
            self._gradients[i] = gradient(slice(None)).float()
        else:
            sum_so_far += gradient(slice(None))


@torch.no_grad()
def tiled(update: LowRankUpdate, gradient: Callable[[slice], Tensor]) -> Tensor:
    """Σ |ΔW ∘ G| of all components. gradient: a slice of `out` -> those rows of G, ... x in."""
    A, B = update.A, update.B if update.e is None else update.B * update.e
    limit = TILE if A.device.type == "cpu" else TILE_GPU
    height = max(1, limit // A.shape[1])
    total = torch.zeros((), device=A.device)
    for start in range(0, B.shape[0], height):
        part = slice(start, start + height)
        total += (B[part] @ A).mul_(gradient(part)).abs_().sum()
    return total * update.scale
