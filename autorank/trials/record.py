"""The record of a trial: settings, state and evaluations, as stored in the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from autorank.training.evaluation import Evaluation

State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """A trial as stored in the journal."""

    number: int
    method: str
    settings: dict[str, Any]  # the method's settings, all of them
    state: State = "running"
    evaluations: tuple[Evaluation, ...] = ()
    reason: str | None = None  # why it failed or was pruned
    seconds: float = 0.0  # training and evaluation time up to the last evaluation
    started: float = 0.0  # Unix time, seconds
    ended: float = 0.0  # likewise; 0 while it runs
    baseline: bool = False
    fixed: bool = False  # one of the method's first trials, whose settings are not sampled
    sampled: dict[str, Any] = field(default_factory=dict)  # the part of the settings that a sampler drew
    sampler_values: tuple[float, ...] | None = None  # objective values for samplers, see `sampling.curve_value`
    stop_reason: str | None = None  # why its last evaluation stopped it
    sampler_attributes: dict[str, Any] = field(default_factory=dict)  # attributes of a genetic sampler
    retries: int = 0  # after its process died
    finished: bool = False  # its last evaluation is its run's last
    reduced_micro_batch: int = 0  # how often its micro-batches were halved after it ran out of memory

    @property
    def step(self) -> int:
        """Optimizer step of the last evaluation; 0 without one."""
        return self.evaluations[-1].step if self.evaluations else 0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, or is continued by the next session."""
        return self.state == "running"


def ended_trials(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that have ended."""
    return [trial for trial in trials if not trial.is_running]
