"""What is known of a trial: its settings, state and evaluations. The journal stores it, the rest reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from autorank.training.evaluation import Evaluation

State = Literal["running", "complete", "pruned", "failed"]


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
    baseline: bool = False
    sampled: dict[str, Any] = field(default_factory=dict)  # the part of the settings that a sampler drew
    sampler_values: tuple[float, ...] | None = None  # what samplers learn of it, see `sampling.curve_value`
    stop_reason: str | None = None  # why its last evaluation stopped it
    generation: dict[str, Any] = field(default_factory=dict)  # what a genetic sampler noted of it
    retries: int = 0  # after its process died
    finished: bool = False  # its last evaluation is its run's last
    reduced_micro_batch: int = 0  # how often its micro-batches were halved after it ran out of memory

    @property
    def step(self) -> int:
        """Of its last evaluation."""
        return self.evaluations[-1].step if self.evaluations else 0
