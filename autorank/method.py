"""The interface of an allocation method. `autorank.methods` finds the methods.

A method consists of five hooks on the training loop, a check of the run's length, and its state:

    prepare         once before the first step: attach updates to the model (LoRA-drop trains its probe here)
    before_forward  for each micro-batch of training, before its forward pass
    penalty         in each training step: an additional loss that depends on the weights (orthogonality)
    before_step     in each step, when the gradients are computed: compute importance scores
    after_step      in each step, after the optimizer, with the gradients still available: allocate, mask, prune

Methods are not part of `autorank`. They are found through the entry-point group `autorank.methods` and access a run
only through its `RunContext`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from autorank.defaults import MAX_INT
from autorank.run_context import RunContext


class MethodConfig(BaseModel):
    """Settings of a method. Subclasses add fields, with the paper's defaults.

    Attributes:
        learning_rate: Peak learning rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate (ours: between published values)")

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any) -> Any:
        if isinstance(value, int) and value > MAX_INT:
            raise ValueError(f"Input should be less than or equal to {MAX_INT}")
        return value


class TargetedConfig(MethodConfig):
    """Settings of a method that adapts a selection of linear layers.

    Attributes:
        targets: The adapted layers, see `target_modules.find`.
    """

    targets: str = Field(
        "attention-qv", description="adapted layers: attention-qv, attention, ffn, all-linear or names"
    )


C = TypeVar("C", bound=MethodConfig)


class AllocationMethod(ABC, Generic[C]):
    """A method that decides how many adapter parameters each layer gets. One object belongs to one run.

    Args:
        config: The settings.

    Attributes:
        name: Name on the command line.
        summary: One line about the method.
        source: The paper.
        Config: Class of the settings.
        sliceable: Whether smaller adapters can be cut from its adapters (see `modeling.spectrum`).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    sliceable: ClassVar[bool] = True

    def __init__(self, config: C) -> None:
        self.config = config

    def check_length(self, layers: int, total_steps: int) -> None:
        """Check that a run is long enough for these settings.

        Called before `prepare`, and in a search before a trial begins.

        Args:
            layers: Number of layers to adapt; 0 for methods without the setting `targets`.
            total_steps: Optimizer steps of the run.

        Raises:
            AutorankError: The run is too short; the message names the settings to change.
        """

    @abstractmethod
    def prepare(self, run: RunContext) -> None:
        """Attach the updates. Not called when a run resumes from a checkpoint, since its updates are rebuilt.

        Args:
            run: The run.
        """

    def before_forward(self, run: RunContext) -> None:
        """Called before the forward pass of a micro-batch of training, `run.batch`.

        Args:
            run: The run.
        """

    @contextmanager
    def most_memory(self, run: RunContext) -> Iterator[None]:
        """A context for one pass over the longest examples that measures memory; its gradients are not used.

        The pass must need as much memory as in any step. A method whose steps differ overrides it.

        Args:
            run: The run, with the micro-batch and their number.
        """
        self.before_forward(run)
        yield

    def penalty(self, run: RunContext) -> Tensor | None:
        """Compute an additional loss that depends on the weights only; it is not part of evaluations.

        Args:
            run: The run.

        Returns:
            A scalar, added to the loss of the step, or None.
        """
        return None

    def before_step(self, run: RunContext) -> None:
        """Called when gradients are summed over micro-batches and workers, unscaled and clipped.

        Args:
            run: The run.
        """

    def after_step(self, run: RunContext) -> None:
        """Called after the optimizer step; the gradients are still available.

        Args:
            run: The run.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the hooks.

        Returns:
            Tensors and plain values.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        """Restore the state of the hooks. Updates are attached already; their values are loaded afterwards.

        Args:
            state: The result of `state_dict`.
            run: The run.
        """

    @classmethod
    @abstractmethod
    def adapter_params(cls, config: Any, model: nn.Module) -> tuple[int, int]:
        """Compute the range of adapter parameters that a finished run with these settings can have.

        Args:
            config: An instance of `Config`.
            model: The base model, on the meta device.

        Returns:
            The smallest and the largest number.
        """
