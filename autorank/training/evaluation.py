"""Evaluations, which the training loop yields: scores of the model and the size of its adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

MASKS_KEY = "kept"  # key of `Slice.component_masks` in journals and checkpoints


@dataclass(frozen=True)
class Slice:
    """A smaller adapter cut from the adapter of an evaluation, with its score.

    Attributes:
        adapter_params: Its parameters, counted as in an evaluation; all of them are nonzero.
        score: The task's main metric; higher is better.
        metrics: All metrics of the task.
        component_masks: Layer name -> components of the layer, as a bit mask (see `modeling.spectrum`).
    """

    adapter_params: int
    score: float
    metrics: dict[str, float]
    component_masks: Mapping[str, int]

    @property
    def ranks(self) -> dict[str, int]:
        """Layer name -> rank."""
        return {name: mask.bit_count() for name, mask in self.component_masks.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        values = asdict(replace(self, component_masks=dict(self.component_masks)))
        return {MASKS_KEY if name == "component_masks" else name: value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Slice:
        """Return the slice that `to_dict` describes."""
        return cls(**{"component_masks" if name == MASKS_KEY else name: value for name, value in values.items()})


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model during training. Every evaluation of every trial is a candidate for the front.

    Attributes:
        step: Number of optimizer steps before the evaluation.
        epoch: Number of epochs, with a fraction.
        score: The task's main metric; higher is better.
        metrics: All metrics of the task.
        train_loss: Mean training loss since the previous evaluation.
        adapter_params: Numbers in the exported adapter, shared ones counted once, without the head. The axis of the
            front.
        nonzero_params: The same without zeros.
        trainable_params: Peak number of trained parameters so far, including the head.
        head_params: Parameters of the head.
        ranks: Module name -> rank.
        seconds: Training and evaluation time so far, without start-up.
        peak_memory: Bytes on the GPU; 0 on a CPU.
        slices: Smaller adapters cut from this one, in ascending order of parameters.
        predictions: Outcomes of each example for the adapter and its slices, compressed by
            `tasks.metrics.outcomes.pack`; empty if there are none. Not part of `to_dict`.
    """

    step: int
    epoch: float
    score: float
    metrics: dict[str, float]
    train_loss: float
    adapter_params: int
    nonzero_params: int
    trainable_params: int
    head_params: int
    ranks: dict[str, int]
    seconds: float
    peak_memory: int
    slices: tuple[Slice, ...] = ()
    predictions: bytes = field(default=b"", compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        slices = tuple(slice_.to_dict() for slice_ in self.slices)
        values = asdict(replace(self, slices=())) | {"slices": slices}
        del values["predictions"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_dict` describes."""
        return cls(**{**values, "slices": tuple(map(Slice.from_dict, values.get("slices", ())))})


def best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation with the highest finite score; ties go to fewer parameters, then to the earlier one."""
    finite = [evaluation for evaluation in evaluations if math.isfinite(evaluation.score)]
    return max(finite, key=lambda e: (e.score, -e.adapter_params), default=None)
