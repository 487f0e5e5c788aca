"""What is known of a trial: its settings, state and evaluations. The journal stores it, the rest reads it."""

from __future__ import annotations

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


@dataclass
class TrialRecord:
    """A trial as the journal knows it."""

    number: int
    config: dict[str, Any]  # the method's settings
    state: State = "running"
    evaluations: list[Evaluation] = field(default_factory=list)
    reason: str | None = None  # why it failed or was pruned
    seconds: float = 0.0  # wall time from start to end; while running, what its evaluations took
    started: float = 0.0  # Unix time, seconds
