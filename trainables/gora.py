"""GoRA: gradients before training determine the rank of each layer and initialize B.

He et al. 2025, "GoRA: Gradient-driven Adaptive Low Rank Adaptation" (arXiv 2502.12171, NeurIPS 2025). The full text of
the paper was not available: formulas are known from its abstract and summaries, settings from its code
(hhnqqq/MyTransformers, gora.py).

  1. G = dL/dW of each adapted layer's frozen weight, averaged over a number of training examples.
  2. The importance of a layer is I = mean |W ∘ G|, and a = I / Σ I. Its rank is r = ⌊[β a] / √(in + out)⌋ with
     β = Σ √(in + out) · reference rank, where [·] rounds, limited to `min_rank` ... `max_rank`.
  3. A is Kaiming-uniform, as in LoRA, and B = -ξ G A⁺ with the pseudo-inverse A⁺ of A. So BA is the best approximation
     of -ξ G that A allows. With ξ = γ √in / alpha the update starts as a step of gradient descent with a learning rate
     of γ √(in / rank).
  4. The update is scaled by alpha / √rank and trained as in LoRA.

So the total rank is near that of the reference, but not equal to it.

Differs from the published code:

  - Its scripts use in + out instead of the square root in item 2; the square root is the paper's.
  - The latest version of the code has B = +ξ G A⁺, which increases the loss; the sign here is the paper's.
  - The scripts train B at 16 times the learning rate of A. That is another method (LoRA+) and is left out.
  - `examples` counts examples, drawn at random. The code counts batches (64 batches of 32 for T5 on GLUE, 32 of 4 per
    device elsewhere).
  - The gradients are computed in evaluation mode, with the untrained head. In the code the model is in training mode.
  - No rank exceeds the smaller side of the layer's weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.layers.frozen_weight import matrix
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from autorank.training import gpu
from trainables.configs import AllLinearConfig


class GoRAConfig(AllLinearConfig):
    """GoRA's settings."""

    reference_rank: int = Field(8, ge=1, description="the budget is that of LoRA with this rank")
    min_rank: int | None = Field(None, ge=1, description="minimum rank; none: half the reference rank (published: 4)")
    max_rank: int | None = Field(
        None, ge=1, description="maximum rank; none: 4 times the reference rank (published: 32)"
    )
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / √rank")
    gamma: float = Field(0.05, ge=0, description="γ, size of the initial step of B; 0: B starts at zero, as in LoRA")
    examples: int = Field(2048, ge=1, description="training examples for the gradients; at most all of them")

    @model_validator(mode="after")
    def _ordered(self) -> GoRAConfig:
        low, high = self.limits
        if low > high:
            raise ValueError(f"min_rank {low} is greater than max_rank {high}")
        return self

    @property
    def limits(self) -> tuple[int, int]:
        """Minimum and maximum rank."""
        low = max(1, self.reference_rank // 2) if self.min_rank is None else self.min_rank
        return low, 4 * self.reference_rank if self.max_rank is None else self.max_rank


class GoRA(AllocationMethod[GoRAConfig]):
    """LoRA whose ranks and initial values come from gradients of the frozen weights."""

    name = "gora"
    summary = "Gradients before training determine each layer's rank and initialize B"
    source = "He et al. 2025, arXiv 2502.12171"
    Config: ClassVar[type[GoRAConfig]] = GoRAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        gradients = weight_gradients(run, self.config.examples)
        sizes = {name: features(layer) for name, layer in run.layers.items()}
        importance = run.once(lambda: importances(run.layers, gradients))
        updates = {}
        for name, rank in ranks({n: float(i) for n, i in importance.items()}, sizes, self.config).items():
            alpha = self.config.alpha * math.sqrt(rank)  # LoRA divides it by the rank
            updates[name] = LowRankUpdate.lora(*sizes[name], rank, alpha, run.generator, run.device)
        starts = run.once(lambda: {n: compressed(gradients[n], u.A.detach()) for n, u in updates.items()})
        for name, update in updates.items():
            step = self.config.gamma * math.sqrt(sizes[name][0]) / self.config.alpha
            update.B.data = (starts[name] * -step).to(update.B)
            attach(run.model, name, update, self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: GoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if all ranks are minimal, and if the budget goes where it yields the most parameters.

        A rank r above the minimum takes at least r √(in + out) - ½ of the budget.
        """
        layers = [(sum(shape), *_limits(shape, config)) for shape in shapes(model, config.targets).values()]
        fewest = sum(size * low for size, low, _ in layers)
        budget = config.reference_rank * sum(math.sqrt(size) for size, _, _ in layers)
        costs = [(high * math.sqrt(size) - 0.5, size * (high - low)) for size, low, high in layers]
        gained = 0.0
        for cost, gain in sorted(costs, key=lambda pair: -pair[1] / pair[0]):
            share = min(1.0, budget / cost)
            gained, budget = gained + share * gain, budget - share * cost
        return fewest, fewest + math.ceil(gained - 1e-6)


def weight_gradients(run: RunContext, examples: int) -> dict[str, Tensor]:
    """Compute the mean gradient of each layer's frozen weight.

    dL/dW is gᵀ x of a layer's input x and the gradient g of its output. This also works for quantized weights. The sums
    are on the run's device if half of its free memory holds them, otherwise on the CPU.

    Args:
        run: The run.
        examples: Number of training examples, drawn at random.

    Returns:
        Layer name -> dL/dW, out x in, float32.
    """
    sizes = {name: features(layer)[::-1] for name, layer in run.layers.items()}
    device = device_for(4 * sum(out * inner for out, inner in sizes.values()), run.device)
    totals = {name: torch.zeros(size, device=device) for name, size in sizes.items()}
    # an input of `_Watched` that requires a gradient, so that gradients reach layers below which all is frozen
    lift = torch.zeros((), device=run.device, requires_grad=True)

    def add(name: str, x: Tensor, g: Tensor) -> None:
        totals[name] += (g.flatten(0, -2).float().t() @ x.flatten(0, -2).float()).to(device)

    def watch(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        watched: Tensor = _Watched.apply(output, inputs[0].detach(), lift, partial(add, name))
        return watched

    chosen = torch.randperm(len(run.labels), generator=run.generator)[:examples].numpy()
    with ExitStack() as hooks:
        for name, layer in run.layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(watch, name)))
        run.gradients(chosen)
    weight = float(run.weights[chosen].sum())
    return {name: run.sum(total.to(run.device)).to(device).div_(weight) for name, total in totals.items()}


def device_for(size: int, device: torch.device) -> torch.device:
    """Return the device if half of the memory that is free for this process holds `size` bytes, else the CPU."""
    if device.type == "cuda" and 2 * size > gpu.free_memory(device):
        return torch.device("cpu")
    return device


def importances(layers: Mapping[str, nn.Module], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return mean |W ∘ G| of every layer, scalars."""
    return {
        name: (matrix(layer).to(gradients[name].device) * gradients[name]).abs().mean()
        for name, layer in layers.items()
    }


class _Watched(torch.autograd.Function):
    """Passes a layer's output through unchanged, and the layer's input and the output's gradient to `add`.

    Autograd saves the input, and recomputes it with gradient checkpointing.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, lift: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.add = add
        return output.clone()  # no view, which some models change in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.add(*ctx.saved_tensors, gradient)
        return gradient, None, None, None


def _limits(shape: Sequence[int], config: GoRAConfig) -> tuple[int, int]:
    """Minimum and maximum rank of a layer of shape (in, out)."""
    low, high = config.limits
    return min(low, *shape), min(high, *shape)


def ranks(importance: Mapping[str, float], sizes: Mapping[str, tuple[int, int]], config: GoRAConfig) -> dict[str, int]:
    """Compute the rank of every layer (item 2 of the method).

    Args:
        importance: Layer name -> I.
        sizes: Layer name -> (in, out).
        config: The method's settings.

    Returns:
        Layer name -> rank.

    Raises:
        AutorankError: The total importance of the layers is zero or not finite.
    """
    total = sum(importance.values())
    if not 0 < total < math.inf:
        raise AutorankError(
            f"gora cannot compute ranks: the importance of the layers sums to {total}. Use --precision bf16 or fp32."
        )
    budget = config.reference_rank * sum(math.sqrt(sum(shape)) for shape in sizes.values())
    by_layer = {}
    for name, shape in sizes.items():
        low, high = _limits(shape, config)
        rank = int(round(budget * importance[name] / total) // math.sqrt(sum(shape)))
        by_layer[name] = min(max(rank, low), high)
    return by_layer


def compressed(gradient: Tensor, A: Tensor) -> Tensor:
    """Return G A⁺, out x rank: the B for which BA is nearest to the gradient G, out x in. In float64 on the CPU."""
    inverse: Tensor = torch.linalg.pinv(A.cpu().double())
    return gradient.cpu().double() @ inverse
