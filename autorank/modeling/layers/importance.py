"""Importance of each update: Σ |ΔW ∘ dL/dΔW|, without storing the two matrices.

The published code (IncreLoRA) computes ΔW, out x in, in every forward pass to hook its gradient. Here dL/dΔW is gᵀ x,
from the layer's input x and the gradient g of its output, computed tile by tile in the backward pass, and only in the
steps that are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.layers.lora_layer import LowRankUpdate

TILE = 1 << 18  # entries of ΔW at a time on a CPU, to fit into its cache
TILE_GPU = 1 << 24


class Importance:
    """Σ |ΔW ∘ dL/dΔW| of updates (IncreLoRA, eq. 5), measured in the steps between `watch` and `take`.

    All components are included, also those that exist only in training. A layer may be called more than once in a
    forward pass (DeBERTa's query and key, with the positions). If a step has several micro-batches, their gradients are
    summed first, which needs one out x in matrix per update in that step.

    Args:
        updates: Updates without a factor `u`.
        first_call: Use dL/dΔW of the first call of a layer in a forward pass, instead of all calls. (The published
            hook runs once for each call and keeps the value of the last backward pass, that of the first call.)
    """

    def __init__(self, updates: Sequence[LowRankUpdate], first_call: bool = False) -> None:
        self._updates, self._first_call = updates, first_call
        self._whole = False
        self._handles: list[RemovableHandle] = []  # only while watching, for a layer is faster unobserved

    @property
    def watching(self) -> bool:
        """Whether a step is being measured."""
        return bool(self._handles)

    def watch(self, micro_batches: int) -> None:
        """Measure the step that begins now; `micro_batches` is its number of micro-batches."""
        self.close()
        self._handles = [u.register_forward_hook(partial(self._forward, i)) for i, u in enumerate(self._updates)]
        self._whole = micro_batches > 1
        self._open = [0] * len(self._updates)
        self._passed: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self._updates]
        self._gradients: list[Tensor | None] = [None] * len(self._updates)
        self._sums = [torch.zeros((), device=update.A.device) for update in self._updates]

    def take(self) -> Tensor:
        """End the measurement and return the importance of each update: one value per update."""
        assert not any(self._open), "a layer's output had no gradient, or its forward pass was run twice"
        if self._whole:
            for i, gradient in enumerate(self._gradients):
                if gradient is not None:
                    self._sums[i] = tiled(self._updates[i], lambda part, whole=gradient: whole[part])  # type: ignore[misc]
        sums = torch.stack(self._sums)
        self.cancel()
        return sums

    def cancel(self) -> None:
        """End the measurement without a result."""
        self.close()
        del self._sums, self._gradients, self._passed

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _forward(self, i: int, update: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        if output.requires_grad and not gradient_checkpointing.recomputing():
            ignored = self._first_call and self._open[i] > 0
            self._open[i] += 1
            if output._is_view():  # of which models that change it in place would lose the hook (Falcon, DeBERTa)
                output = output.clone()
            output.register_hook(partial(self._backward, i, None if ignored else inputs[0].detach()))
        return output

    @torch.no_grad()
    def _backward(self, i: int, x: Tensor | None, g: Tensor) -> None:
        """x: ... x in, None for an ignored call; g: ... x out."""
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
    """Σ |ΔW ∘ G| over all components, tile by tile.

    Args:
        update: An update without a factor `u`.
        gradient: Returns the rows of G for a slice of `out`: rows x in.

    Returns:
        A scalar.
    """
    A, B = update.A, update.B if update.e is None else update.B * update.e
    limit = TILE if A.device.type == "cpu" else TILE_GPU
    height = max(1, limit // A.shape[1])
    total = torch.zeros((), device=A.device)
    for start in range(0, B.shape[0], height):
        part = slice(start, start + height)
        total += (B[part] @ A).mul_(gradient(part)).abs_().sum()
    return total * update.scale
