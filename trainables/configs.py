"""Settings that several methods have.

`PhasedConfig` and `RetrainConfig` are combined with other configs. They have no field `targets`: if two base classes
had it, pydantic would use the default of the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from autorank.method import MethodConfig, TargetedConfig


class LowRankConfig(TargetedConfig):
    """Settings of a method with low-rank updates."""

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")


class AllLinearConfig(LowRankConfig):
    """The same, with updates for all linear layers by default."""

    targets: str = Field("all-linear", description="adapted layers: attention-qv, attention, ffn, all-linear or names")


class RetrainConfig(MethodConfig):
    """Settings of a method that can train with the ranks of another run."""

    retrain: Path | None = Field(None, description="a rank map (JSON file) of another run: the ranks from the start")


class PhasedConfig(MethodConfig):
    """Settings of a method whose ranks change between an initial and a final phase. Subclasses set the defaults.

    Attributes:
        initial: Fraction of the run before the ranks change.
        final: Fraction of the run with fixed ranks.
    """

    initial: float
    final: float

    @model_validator(mode="after")
    def _leaves_steps(self) -> Self:
        if self.initial + self.final >= 1:
            raise ValueError(f"initial {self.initial:g} plus final {self.final:g} must be less than 1")
        return self

    def phases(self, total_steps: int) -> tuple[int, int]:
        """Compute when the ranks change.

        Args:
            total_steps: Optimizer steps of the run.

        Returns:
            The last step of the initial phase, and the step after which the final phase begins.
        """
        return int(self.initial * total_steps), total_steps - int(self.final * total_steps)
