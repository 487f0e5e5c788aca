"""The contract that every allocation method fulfils; `autorank.methods` finds them.

A method is five hooks on the training loop, a check of the run's length and its state:

    prepare         once, before the first step: attach updates to the model (LoRA-drop trains its probe here)
    before_forward  each micro-batch of training: watch what will pass through the layers
    penalty         each step: an extra loss on the weights alone (orthogonality), in training only
    before_step     each step, when the gradients are there: score importance
    after_step      each step, when the weights have moved and the gradients are still there: allocate, mask, prune

Methods live outside `autorank`, are found through the entry-point group `autorank.methods`, and see a run only
through its `RunContext`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from autorank.modeling.base_model import BaseModel as BaseTransformer
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.spectrum import ROUNDING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FROZEN = 1 << 40  # a schedule start that is never reached: the component is not trained
CONSTANT = -1  # a schedule start without a schedule: the peak learning rate throughout


class MethodConfig(BaseModel):
    """A method's settings. Subclasses add theirs, with the paper's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (ours: amid the published ones)")


class TargetedConfig(MethodConfig):
    """Settings of a method that adapts some of the model's linear layers."""

    targets: str = Field(
        "attention-qv", description="adapted layers: attention-qv, attention, ffn, all-linear or names"
    )


class Optimizer(Protocol):
    """What methods may ask of the optimizer while it runs."""

    def add_group(
        self, parameters: Mapping[str, nn.Parameter], start: int = 0, weight_decay: float | None = None
    ) -> None:
        """Train these from step `start` on, with a warm-up of their own; all groups end at zero together."""

    def add_epsilon_before_correction(self) -> None:
        """Add ε before the second moment's bias is corrected, as transformers' former AdamW did (published code)."""

    def add_components(self, name: str, parameter: nn.Parameter, dim: int) -> None:
        """Train a factor whose components, along `dim`, each have a schedule start of their own, at first step 0."""

    def set_schedule_start(self, parameter: nn.Parameter, index: Tensor, start: int) -> None:
        """Set the schedule start of these components: a step, `CONSTANT` (no schedule) or `FROZEN` (frozen)."""

    def keep(self, parameter: nn.Parameter, index: Tensor, dim: int) -> None:
        """The parameter was shrunk to `index` along `dim`: shrink its moments alike."""

    def combine(self, parameter: nn.Parameter, coefficients: Tensor, dim: int) -> None:
        """The gradients of a parameter's components are now these combinations of what they were: so are its moments.

        Args:
            parameter: the factor, without clocks.
            coefficients: new x old components.
            dim: the dimension along which its components lie.
        """

    def grow(self, parameter: nn.Parameter, start: int) -> None:
        """A factor has gained components: their moments are zero, their schedules start at `start`."""


@dataclass
class RunContext:
    """What a method sees of a run.

    Attributes:
        base: the model and its head.
        layers: name -> layer to adapt, in the model's order; none for a method whose settings name no targets.
        generator: the run's own random numbers, for initial values; on the CPU.
        labels: training labels, or for spans and generation other strata, `examples`.
        weights: how much each training example counts in a mean loss, `examples`.
        total_steps, warmup_steps: of this run.
        step: optimizer steps done.
        batch: the micro-batch of the training forward pass at hand: input_ids, attention_mask, ...
        micro_batch, micro_batches: its number in the step, from 0, and how many the step has on this worker; 0: none,
            and what passes is an example without weight.
        loss_scale: by how much gradients are too large during the backward pass (fp16), not afterwards.
        sum: add up the workers' values, in place.
        once: what the first worker's function gives, to all workers: so that they start alike whatever their devices.
            It is called there alone, so not for `sum`, `train_on` and `gradients`, in which all take part.
        undo: called when the run is over: whoever puts hooks or modules on the model adds what takes them off.
        cache: folder for results that other runs can reuse, keyed by `key`.
        key: names the data, the model and everything of the training but the method's settings.
        train_on: train what is attached and the head on these examples for so many epochs, with the run's own
            learning rate, warm-up ratio and batch size.
        observe: run the model over these examples in evaluation mode; the callback gets each batch before its
            forward pass.
        gradients: run the model over these examples in evaluation mode; name -> gradient of the sum of their losses,
            by `weights`, of every parameter that requires one, summed over the workers; no `.grad` is left behind.
    """

    base: BaseTransformer
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
    step: int = 0
    batch: dict[str, Tensor] = field(default_factory=dict)
    micro_batch: int = 0
    micro_batches: int = 1
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def model(self) -> PreTrainedModel:
        return self.base.model

    def train_components(self, name: str, update: LowRankUpdate) -> None:
        """Give every component of the update on layer `name` a schedule start of its own."""
        for factor, (parameter, dim) in _factors(update).items():
            self.optimizer.add_components(f"{name}.update.{factor}", parameter, dim)

    def keep(self, update: LowRankUpdate, components: Tensor) -> None:
        """Shrink an update to these components (indices), its optimizer state with it."""
        update.keep(components)
        for parameter, dim in _factors(update).values():
            self.optimizer.keep(parameter, components, dim)

    @torch.no_grad()
    def replace(self, update: LowRankUpdate, A: Tensor, B: Tensor) -> None:
        """Replace the components of an update by combinations of them, its optimizer state with it.

        With A' = P A and B' = B Q the gradients of A' and B' are Qᵀ · dL/dA and dL/dB · Pᵀ. Adam's moments follow.

        Args:
            update: an update without e.
            A: A', new rank x in; its rows are combinations of those of A.
            B: B', out x new rank; its columns are combinations of those of B.
        """
        P = A.double() @ torch.linalg.pinv(update.A.double(), rtol=ROUNDING)
        Q = torch.linalg.pinv(update.B.double(), rtol=ROUNDING) @ B.double()
        update.replace(A, B)
        self.optimizer.combine(update.A, Q.T, dim=0)
        self.optimizer.combine(update.B, P, dim=1)

    def grow(self, update: LowRankUpdate, A: Tensor, B: Tensor, e: Tensor | None, start: int) -> None:
        """Append components, as `LowRankUpdate.grow`, whose schedules start at step `start`."""
        update.grow(A, B, e)
        for parameter, _ in _factors(update).values():
            self.optimizer.grow(parameter, start)


def _factors(update: LowRankUpdate) -> dict[str, tuple[nn.Parameter, int]]:
    """Name -> factor and the dimension along which its components lie."""
    factors = {"A": (update.A, 0), "B": (update.B, 1)}
    return factors if update.e is None else factors | {"e": (update.e, 0)}


C = TypeVar("C", bound=MethodConfig)


class AllocationMethod(ABC, Generic[C]):
    """One way to decide how many adapter parameters go to which layer."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line
    source: ClassVar[str]  # the paper
    Config: ClassVar[type[MethodConfig]]
    sliceable: ClassVar[bool] = True  # smaller adapters can be cut from its adapters (see `modeling.spectrum`)

    def __init__(self, config: C) -> None:
        self.config = config

    def check_length(self, layers: int, total_steps: int) -> None:
        """Refuse runs that are too short for these settings.

        Called before `prepare`, and by a search before it begins a trial.

        Args:
            layers: number of layers to adapt; 0 for a method whose settings name no targets.
            total_steps: optimizer steps of the run.

        Raises:
            AutorankError: the run is too short; the message says which settings to change.
        """

    @abstractmethod
    def prepare(self, run: RunContext) -> None:
        """Attach the updates. Not called for a run that goes on from a checkpoint: its updates are rebuilt."""

    def before_forward(self, run: RunContext) -> None:
        """A micro-batch of training, `run.batch`, is about to pass through the model."""

    def penalty(self, run: RunContext) -> Tensor | None:
        """A scalar of the weights alone, added to a step's loss; never part of an evaluation."""
        return None

    def before_step(self, run: RunContext) -> None:
        """Gradients are there: summed over the step's micro-batches and workers, unscaled and clipped."""

    def after_step(self, run: RunContext) -> None:
        """The weights have moved; the step's gradients are still there."""

    def state_dict(self) -> dict[str, Any]:
        """What the hooks remember, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        """Go on from `state`. Low-rank updates are attached again already; their values are loaded after this."""

    @classmethod
    @abstractmethod
    def adapter_params(cls, config: Any, model: nn.Module) -> tuple[int, int]:
        """Fewest and most adapter parameters that a finished run of this config can have, in closed form.

        Args:
            config: an instance of `Config`.
            model: the base model's structure, on the meta device.
        """
