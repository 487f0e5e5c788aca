"""GoRA: gradients before training give every layer its rank, and B its first values.

He et al. 2025, "GoRA: Gradient-driven Adaptive Low Rank Adaptation" (arXiv 2502.12171, NeurIPS 2025). The paper is
known here from its abstract and summaries of its formulas, settings from its code (hhnqqq/MyTransformers, gora.py).

  1. G = dL/dW of every adapted layer's frozen weight, the mean over so many training examples.
  2. Importance I = mean |W ∘ G|, and a = I / Σ I. Rank r = ⌊[β a] / √(in + out)⌋, where β = Σ √(in + out) · reference
     rank and [·] rounds, but no less than `min_rank` and no more than `max_rank`.
  3. A is Kaiming-uniform, as LoRA's, and B = -ξ G A⁺ (A⁺: A's pseudo-inverse), so that BA is -G as far as A reaches.
     ξ = γ √in / alpha: the update starts as a step of gradient descent, at a learning rate of γ √(in / rank).
  4. It is scaled by alpha / √rank, and trained as LoRA.

The total is therefore near the reference's, not equal to it.

Differs from the published code:

  - Its scripts take in + out in place of the root in item 2; the root is the paper's.
  - The last version of the code has B = +ξ G A⁺, which goes uphill; the sign here is the paper's.
  - The scripts train B at 16 times A's learning rate. That is another method (LoRA+) and is left out.
  - `examples` counts examples, drawn at random; the code counts batches (64 of 32 for T5 on GLUE, 32 of 4 on each
    device elsewhere).
  - The gradients are measured in evaluation mode, with the head as drawn; the code has the model in training mode.
  - No rank exceeds what the layer's shape allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import attach
from autorank.modeling.layers.frozen_weight import matrix
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext


class GoRAConfig(TargetedConfig):
    """GoRA's settings."""

    targets: str = Field("all-linear", description="adapted layers: attention-qv, attention, ffn, all-linear or names")
    reference_rank: int = Field(8, ge=1, description="the budget is that of LoRA of this rank")
    min_rank: int | None = Field(None, ge=1, description="least rank; none: half the reference rank (published: 4)")
    max_rank: int | None = Field(None, ge=1, description="highest rank; none: 4 reference ranks (published: 32)")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / √rank")
    gamma: float = Field(0.05, ge=0, description="γ, size of the step that B starts with; 0: B is zero, as LoRA's")
    examples: int = Field(2048, ge=1, description="examples that give the gradients; more than there are: all")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")

    @model_validator(mode="after")
    def _ordered(self) -> GoRAConfig:
        least, most = self.limits
        if least > most:
            raise ValueError(f"min_rank {least} is above max_rank {most}")
        return self

    @property
    def limits(self) -> tuple[int, int]:
        """Least and highest rank."""
        least = max(1, self.reference_rank // 2) if self.min_rank is None else self.min_rank
        return least, 4 * self.reference_rank if self.max_rank is None else self.max_rank


class GoRA(AllocationMethod[GoRAConfig]):
    """LoRA whose ranks and first values come from gradients of the frozen weights."""

    name = "gora"
    summary = "Gradients before training give every layer its rank, and B its first values"
    source = "He et al. 2025, arXiv 2502.12171"
    Config: ClassVar[type[GoRAConfig]] = GoRAConfig

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
    def adapter_params(cls, config: GoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if all ranks are least, and if the budget goes where it gives the most parameters.

        A rank r above the least takes a share of the budget of at least r √(in + out) - ½.
        """
        layers = [(sum(shape), *_limits(shape, config)) for shape in shapes(model, config.targets).values()]
        fewest = sum(size * least for size, least, _ in layers)
        budget = config.reference_rank * sum(math.sqrt(size) for size, _, _ in layers)
        costs = [(most * math.sqrt(size) - 0.5, size * (most - least)) for size, least, most in layers]
        gained = 0.0
        for cost, gain in sorted(costs, key=lambda pair: -pair[1] / pair[0]):
            share = min(1.0, budget / cost)
            gained, budget = gained + share * gain, budget - share * cost
        return fewest, fewest + math.ceil(gained - 1e-6)


def weight_gradients(run: RunContext, examples: int) -> dict[str, Tensor]:
    """Layer name -> mean of dL/dW over so many training examples, out x in, float32, on the CPU.

    dL/dW is gᵀ x of a layer's input x and its output's gradient g: a quantised weight has none of its own, and the
    device holds one such matrix at a time.
    """
    totals = {name: torch.zeros(features(layer)[::-1]) for name, layer in run.layers.items()}
    lift = torch.zeros((), device=run.device, requires_grad=True)  # lets gradients flow where all below is frozen

    def add(name: str, x: Tensor, g: Tensor) -> None:
        totals[name] += (g.flatten(0, -2).float().t() @ x.flatten(0, -2).float()).cpu()

    def watch(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        watched: Tensor = _Watched.apply(output, inputs[0].detach(), lift, partial(add, name))
        return watched

    handles = [layer.register_forward_hook(partial(watch, name)) for name, layer in run.layers.items()]
    try:
        chosen = torch.randperm(len(run.labels), generator=run.generator)[:examples].numpy()
        run.gradients(chosen)
    finally:
        for handle in handles:
            handle.remove()
    weight = float(run.weights[chosen].sum())
    return {name: run.sum(total.to(run.device)).cpu() / weight for name, total in totals.items()}


def importances(layers: Mapping[str, nn.Module], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mean |W ∘ G| of every layer, scalars on the CPU."""
    return {name: (matrix(layer).cpu() * gradients[name]).abs().mean() for name, layer in layers.items()}


class _Watched(torch.autograd.Function):
    """A layer's output as it is; `add` gets the layer's input and the output's gradient.

    The input is saved by autograd, which with gradient checkpointing computes it again.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, lift: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.add = add
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.add(*ctx.saved_tensors, gradient)
        return gradient, None, None, None


def _limits(shape: Sequence[int], config: GoRAConfig) -> tuple[int, int]:
    """Least and highest rank of a layer of shape (in, out)."""
    least, most = config.limits
    return min(least, *shape), min(most, *shape)


def ranks(importance: Mapping[str, float], sizes: Mapping[str, tuple[int, int]], config: GoRAConfig) -> dict[str, int]:
    """Rank of every layer. sizes: (in, out).

    Raises:
        AutorankError: the importance of the layers is zero or not finite.
    """
    whole = sum(importance.values())
    if not 0 < whole < math.inf:
        raise AutorankError(
            f"gora's gradients are of no use: the layers' importance adds up to {whole}. Use --precision bf16 or fp32."
        )
    budget = config.reference_rank * sum(math.sqrt(sum(shape)) for shape in sizes.values())
    given = {}
    for name, shape in sizes.items():
        least, most = _limits(shape, config)
        rank = int(round(budget * importance[name] / whole) // math.sqrt(sum(shape)))
        given[name] = min(max(rank, least), most)
    return given


def compressed(gradient: Tensor, A: Tensor) -> Tensor:
    """B, out x rank, for which BA is nearest to the gradient, out x in: G A⁺, in float64 on the CPU."""
    inverse: Tensor = torch.linalg.pinv(A.double().cpu())
    return gradient.double() @ inverse
