"""What a method can access of a run: the model, the data, the optimizer, the other workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from autorank.defaults import SliceScore
from autorank.modeling.base_model import BaseModel
from autorank.modeling.devices import double
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.spectrum import ROUNDING, Spectrum

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FROZEN = 1 << 40  # a schedule start that is never reached: the component is not trained
CONSTANT = -1  # a schedule start without a schedule: the peak learning rate throughout


class Optimizer(Protocol):
    """The interface of the optimizer for methods."""

    def add_group(self, parameters: Mapping[str, nn.Parameter], weight_decay: float | None = None) -> None:
        """Train parameters.

        Args:
            parameters: The parameters by name.
            weight_decay: Weight decay; None: that of the run.
        """

    def add_epsilon_before_correction(self) -> None:
        """Add ε before the bias correction of the second moment, as transformers' former AdamW (published code)."""

    def add_components(self, name: str, parameter: nn.Parameter, dim: int) -> None:
        """Train a factor whose components have separate schedule starts, initially step 0.

        Args:
            name: Name of the parameter.
            parameter: The factor.
            dim: Dimension of the components.
        """

    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        """Set the schedule start of components.

        Args:
            parameter: A factor passed to `add_components`.
            index: Indices of the components.
            start: A step, `CONSTANT` (constant learning rate) or `FROZEN` (not trained).
        """

    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        """Shrink the moments of a parameter that was shrunk.

        Args:
            parameter: The parameter.
            index: Indices of the components that are left.
            dim: Dimension of the components.
        """

    def combine(self, parameter: nn.Parameter, coefficients: Tensor, dim: int) -> None:
        """Transform the moments of a parameter whose components were replaced by linear combinations.

        Args:
            parameter: A factor that was not passed to `add_components`.
            coefficients: How the new gradients are combined from the old ones: new x old components.
            dim: Dimension of the components.
        """

    def grow(self, parameter: nn.Parameter, start: int) -> None:
        """Add moments of zero for the components appended to a factor.

        Args:
            parameter: The factor.
            start: Start of their schedules.
        """


@dataclass
class RunContext:
    """What a method can access of a run.

    Attributes:
        base: The model and its head.
        layers: The layers to adapt by name, in the model's order; empty for methods without the setting `targets`.
        generator: Random numbers of the run for initial values, on the CPU.
        device: Device of the model.
        seed: Random seed of the run.
        labels: Training labels, or for spans and generation other strata, `examples`.
        weights: Weight of each training example in a mean loss, `examples`.
        total_steps: Optimizer steps of the run.
        warmup_steps: Steps of the warm-up.
        cache: Directory for results that other runs can reuse, keyed by `key`.
        key: Identifies the data, the model and all settings of the training except those of the method.
        train_on: Trains the attached adapters and the head on these examples for a number of epochs, with the run's
            learning rate, warm-up ratio and batch size.
        observe: Runs the model over these examples in evaluation mode; the callback receives each batch before its
            forward pass.
        gradients: Runs the model over these examples in evaluation mode and returns the gradient of the sum of their
            losses, weighted by `weights`, of each parameter that requires one, by name, summed over the workers. No
            `.grad` is left behind.
        optimizer: The optimizer.
        loss_scale: Returns the factor of the gradients during the backward pass (fp16); afterwards they are unscaled.
        sum: Sums the values of all workers, in place.
        once: Computes a result on the first worker and returns it on all workers, so that they start with the same
            values. `sum`, `train_on` and `gradients` cannot be used in it, because they need all workers.
        component_scores: Scores the components of a factorized adapter by a score of slices. Returns a tensor of shape
            rank for each update, as `Spectrum.order_by` takes them. It does not communicate, so `once` can use it.
        step: Number of completed optimizer steps.
        batch: The micro-batch of the current forward pass in training: input_ids, attention_mask, ...
        micro_batch: Its number in the step, from 0.
        micro_batches: Number of micro-batches of the step on this worker. 0: the micro-batch has no weight.
        undo: Functions called at the end of the run; add one for each hook or module that a method puts on the model.
    """

    base: BaseModel
    layers: dict[str, nn.Module]
    generator: torch.Generator
    device: torch.device
    seed: int
    labels: np.ndarray
    weights: np.ndarray
    total_steps: int
    warmup_steps: int
    cache: Path
    key: str
    train_on: Callable[[np.ndarray, int], None]
    observe: Callable[[np.ndarray, Callable[[dict[str, Tensor]], None]], None]
    gradients: Callable[[np.ndarray], dict[str, Tensor]]
    optimizer: Optimizer
    loss_scale: Callable[[], float] = lambda: 1.0
    sum: Callable[[Tensor], Tensor] = lambda values: values
    once: Callable[[Callable[[], dict[str, Tensor]]], dict[str, Tensor]] = lambda make: make()
    component_scores: Callable[[SliceScore, Spectrum], list[Tensor]] = lambda _, spectrum: spectrum.energies()
    step: int = 0
    batch: dict[str, Tensor] = field(default_factory=dict)
    micro_batch: int = 0
    micro_batches: int = 1
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model."""
        return self.base.model

    def train_components(self, name: str, update: LowRankUpdate) -> None:
        """Train the components of an update with separate schedule starts.

        Args:
            name: Name of the layer.
            update: Its update.
        """
        for factor, (parameter, dim) in _factors(update).items():
            self.optimizer.add_components(f"{name}.update.{factor}", parameter, dim)

    def keep(self, update: LowRankUpdate, components: Tensor) -> None:
        """Shrink an update and its optimizer state, in place.

        Args:
            update: The update.
            components: Indices of the components that are left.
        """
        update.keep(components)
        for parameter, dim in _factors(update).values():
            self.optimizer.keep(parameter, components, dim)

    @torch.no_grad()
    def replace(self, update: LowRankUpdate, A: Tensor, B: Tensor) -> None:
        """Replace the components of an update by linear combinations of them, and transform its optimizer state.

        With A' = P A and B' = B Q the gradients of A' and B' are Qᵀ · dL/dA and dL/dB · Pᵀ. Adam's moments follow.

        Args:
            update: An update without e.
            A: A', new rank x in; its rows are combinations of those of A.
            B: B', out x new rank; its columns are combinations of those of B.
        """
        P = double(A) @ torch.linalg.pinv(double(update.A), rtol=ROUNDING)
        Q = torch.linalg.pinv(double(update.B), rtol=ROUNDING) @ double(B)
        update.replace(A, B)
        self.optimizer.combine(update.A, Q.T, dim=0)
        self.optimizer.combine(update.B, P, dim=1)

    def grow(self, update: LowRankUpdate, A: Tensor, B: Tensor, e: Tensor | None, start: int) -> None:
        """Append components to an update and its optimizer state, in place.

        Args:
            update: The update.
            A: New rows of A, new x in.
            B: New columns of B, out x new.
            e: New entries of e, new; required if the update has e.
            start: First step of their schedules.
        """
        update.grow(A, B, e)
        for parameter, _ in _factors(update).values():
            self.optimizer.grow(parameter, start)


def _factors(update: LowRankUpdate) -> dict[str, tuple[nn.Parameter, int]]:
    """The factors of an update by name, with the dimension of their components."""
    factors = {"A": (update.A, 0), "B": (update.B, 1)}
    return factors if update.e is None else factors | {"e": (update.e, 0)}
