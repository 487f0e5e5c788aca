"""What is known of a trial: its settings, state and evaluations. The journal stores it, the rest reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """One look at a run. Every evaluation of every trial is a candidate for the front.

    `adapter_params` is the front's axis: distinct numbers that the exported adapter stores, shared ones
    counted once, without the classification head. `nonzero_params` leaves zeros out. `trainable_params` is
    everything that had a gradient, head included, at its peak so far. `head_params` is the head alone.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the journal knows it."""

    number: int
    method: str
    config: dict[str, Any]  # the method's settings, all of them
    state: State = "running"
    evaluations: tuple[Evaluation, ...] = ()
    reason: str | None = None  # why it failed or was pruned
    seconds: float = 0.0  # of training and evaluation, up to its last evaluation
    started: float = 0.0  # Unix time, seconds
    ended: float = 0.0  # likewise; 0 while it runs
    control: bool = False
    drawn: dict[str, Any] = field(default_factory=dict)  # the part of the settings that a sampler drew
    told: tuple[float, ...] | None = None  # params, score (and the third objective): what samplers learn of it
    stop: str | None = None  # why its last evaluation stopped it
    generation: dict[str, Any] = field(default_factory=dict)  # what a genetic sampler noted of it
    retries: int = 0  # after its process died
    finished: bool = False  # its last evaluation is its run's last
    halved: bool = False  # ran out of memory: its micro-batches are half as large

    @property
    def step(self) -> int:
        """Of its last evaluation."""
        return self.evaluations[-1].step if self.evaluations else 0


def best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest finite score; ties go to fewer parameters, then to the earlier one."""
    finite = [evaluation for evaluation in evaluations if math.isfinite(evaluation.score)]
    return max(finite, key=lambda e: (e.score, -e.adapter_params), default=None)
