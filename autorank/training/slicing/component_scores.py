"""Scores by which the components of an adapter are ranked when smaller adapters are cut from it.

With S the singular values of an update, v_i and u_i their right and left vectors, x the inputs of the layer and G the
gradient of the loss for ΔW; all per parameter of the component, and summed over the layers that share an update:

    energy      S_i²                                  PARA (arXiv 2604.27796) pools S_i; per parameter: ours
    input       S_i² · mean over tokens of (v_i · x)²     the mean squared length of the component's output (ours)
    gradient    mean of (S_i u_iᵀ G v_i)²                 empirical Fisher information of a gate on the component (ours)

The last two read a small calibration part of the training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.defaults import SliceScore
from autorank.modeling import adapters
from autorank.modeling.forward import gradient_checkpointing
from autorank.modeling.layers.position_queries import TokenInputs
from autorank.modeling.spectrum import Spectrum
from autorank.tasks.data.batches import eval_batches, token_mask
from autorank.training.optimization.loop import OptimizationLoop

CALIBRATION = 64  # training examples
BATCH = 8  # training examples in a forward pass; `gradient` averages over batches
PASSES: dict[SliceScore, int] = {"energy": 0, "input": CALIBRATION, "gradient": 2 * CALIBRATION}
"""Passes of one training example that a score costs, forward and backward."""


def component_scores(kind: SliceScore, spectrum: Spectrum, loop: OptimizationLoop) -> list[Tensor]:
    """Score the components of a factorized adapter.

    Args:
        kind: Which score.
        spectrum: The uncut spectrum of `loop.model`, within `factorized`.
        loop: The loop with the model and the training examples.

    Returns:
        For each update a tensor of shape rank, as `Spectrum.order_by` takes them.
    """
    if kind == "energy":
        return spectrum.energies()
    totals = _output_energies(spectrum, loop) if kind == "input" else _sensitivities(spectrum, loop)
    return [total / size for total, size in zip(totals, spectrum.sizes, strict=True)]


def _calibration(loop: OptimizationLoop) -> list[np.ndarray]:
    """Batches of examples that lie evenly spread in the training split; the same for every run."""
    examples = np.unique(np.linspace(0, len(loop.split) - 1, CALIBRATION).round().astype(int))
    return [examples[part] for part in eval_batches(loop.split.lengths[examples], BATCH)]


def _output_energies(spectrum: Spectrum, loop: OptimizationLoop) -> list[Tensor]:
    """Σ over an update's layers of mean (A' x)² ∘ ‖B'‖², rank each: S v·x is √S times A' x, and ‖B' column‖² is S."""
    layers = adapters.adapted(loop.model)
    sums = {name: torch.zeros(spectrum.updates[index].components) for name, index in spectrum.layers.items()}
    tokens = dict.fromkeys(sums, 0.0)
    batch: dict[str, Tensor] = {}
    token_inputs = TokenInputs(loop.model)

    def before(inputs: dict[str, Tensor]) -> None:
        batch.update(inputs)
        token_inputs.begin()

    def observe(name: str, layer: Any, inputs: tuple[Tensor, ...]) -> None:
        if not token_inputs.next_is_tokens(name):
            return
        squares = F.linear(inputs[0].to(layer.update.A.dtype), layer.update.A).float().square()
        squares = squares[token_mask(batch, squares.shape[:-1]).bool()]  # tokens x rank
        sums[name] += squares.sum(dim=0).cpu()
        tokens[name] += len(squares)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(observe, name)))
        for _ in loop.outputs(loop.split, _calibration(loop), before):
            pass
    totals = [torch.zeros(update.components) for update in spectrum.updates]
    for name, index in spectrum.layers.items():
        totals[index] += sums[name] / max(tokens[name], 1) * spectrum.updates[index].B.square().sum(dim=0).cpu()
    return totals


def _sensitivities(spectrum: Spectrum, loop: OptimizationLoop) -> list[Tensor]:
    """Mean over batches of (S u_iᵀ G v_i)², rank each; no gradient is left behind.

    The parenthesis is the derivative by a gate on the component: the column of B' times its gradient.
    """
    totals = [torch.zeros(update.components) for update in spectrum.updates]
    factors = [update.B for update in spectrum.updates]
    batches = _calibration(loop)
    with gradient_checkpointing.evaluating(loop.model):
        for examples in batches:
            for total, derivatives in zip(totals, _gate_derivatives(factors, loop, examples), strict=True):
                total += derivatives.square().cpu() / len(batches)
    return totals


def _gate_derivatives(factors: Sequence[Tensor], loop: OptimizationLoop, examples: np.ndarray) -> list[Tensor]:
    """The derivative of a batch's loss by a gate on each component, rank each.

    The batch is split like a step, which saves memory. As in `OptimizationLoop.gradients` losses are summed, so that
    gradients are large enough for fp16.
    """
    derivatives = [torch.zeros(factor.shape[1], device=factor.device) for factor in factors]
    weights = loop.split.weights
    for part in np.array_split(examples, min(loop.plan.accumulate, len(examples))):
        loss = loop.loss(loop.inputs(part)) * weights[part].sum()
        for total, factor, gradient in zip(
            derivatives, factors, torch.autograd.grad(loss, factors, allow_unused=True), strict=True
        ):
            if gradient is not None:
                total += (factor.detach() * gradient).sum(dim=0)
    return [total / float(weights[examples].sum()) for total in derivatives]
