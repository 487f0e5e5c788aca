"""What the training loop yields: an evaluation of the model, with the size of its adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Slice:
    """A smaller adapter cut from the adapter of an evaluation, and what it scores.

    Attributes:
        adapter_params: its parameters, counted as those of an evaluation; all of them are nonzero.
        score: the task's main metric, higher is better.
        metrics: all metrics of the task.
        kept: layer name -> the components that it keeps, as a bit mask (see `modeling.spectrum`).
    """

    adapter_params: int
    score: float
    metrics: dict[str, float]
    kept: Mapping[str, int]

    @property
    def ranks(self) -> dict[str, int]:
        """Layer name -> rank."""
        return {name: mask.bit_count() for name, mask in self.kept.items()}


@dataclass(frozen=True)
class Evaluation:
    """One look at a run. Every evaluation of every trial is a candidate for the front.

    `adapter_params` is the front's axis: distinct numbers that the exported adapter stores, shared ones
    counted once, without the classification head. `nonzero_params` leaves zeros out. `trainable_params` is
    everything that had a gradient, head included, at its peak so far. `head_params` is the head alone.
    `predictions` are the outcomes of each example for the adapter and then for its slices, as
    `tasks.metrics.outcomes.pack` compresses them; empty if there are none. They are no part of `to_dict`.
    """

    step: int  # optimizer steps done
    epoch: float
    score: float  # the task's main metric, higher is better
    metrics: dict[str, float]
    train_loss: float  # mean since the evaluation before
    adapter_params: int
    nonzero_params: int
    trainable_params: int
    head_params: int
    ranks: dict[str, int]  # module -> rank
    seconds: float  # of training and evaluation so far, start-up not counted
    peak_memory: int  # bytes on the GPU; 0 on a CPU
    slices: tuple[Slice, ...] = ()  # smaller adapters cut from this one, by rising parameters
    predictions: bytes = field(default=b"", compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        slices = tuple(asdict(replace(piece, kept=dict(piece.kept))) for piece in self.slices)
        values = asdict(replace(self, slices=())) | {"slices": slices}
        del values["predictions"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_dict` describes."""
        return cls(**{**values, "slices": tuple(Slice(**piece) for piece in values.get("slices", ()))})


def best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest finite score; ties go to fewer parameters, then to the earlier one."""
    finite = [evaluation for evaluation in evaluations if math.isfinite(evaluation.score)]
    return max(finite, key=lambda e: (e.score, -e.adapter_params), default=None)
