"""The points of a search: trained adapters and their slices, each with its parameters and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from autorank.training.evaluation import Evaluation
from autorank.trials.record import TrialRecord


class PointKey(NamedTuple):
    """What identifies a point of a search."""

    trial: int
    step: int
    adapter_params: int


@dataclass(frozen=True)
class Point:
    """A candidate for the front: the adapter of an evaluation, or a slice of that adapter.

    Attributes:
        settings: The settings of the trial.
        seconds: Training and evaluation time up to this evaluation, in seconds.
        memory: Peak GPU memory, in bytes.
        component_masks: Components that a slice keeps (see `Slice`); None for a whole adapter.
        cut_from: Parameters of the whole adapter of a slice; None for a whole adapter.
    """

    trial: int
    step: int
    adapter_params: int
    score: float
    settings: dict[str, Any]
    nonzero_params: int
    metrics: dict[str, float]
    method: str = ""
    seconds: float = 0.0
    memory: int = 0
    knee: bool = False
    component_masks: Mapping[str, int] | None = None
    cut_from: int | None = None

    @property
    def key(self) -> PointKey:
        """What identifies the point."""
        return PointKey(self.trial, self.step, self.adapter_params)

    @property
    def label(self) -> str:
        """`trial 3, step 200`, and of a slice `, cut from 331,776 to 20,352 parameters`."""
        label = f"trial {self.trial}, step {self.step}"
        if self.component_masks is None:
            return label
        return f"{label}, cut from {self.cut_from:,} to {self.adapter_params:,} parameters"

    @property
    def precedence(self) -> tuple[bool, int, int]:
        """Sort key among points with equal objectives: whole adapters first, then the earliest trial and step."""
        return self.component_masks is not None, self.trial, self.step


def points_of(trial: TrialRecord, evaluation: Evaluation) -> list[Point]:
    """The candidates that an evaluation of a trial gives: the whole adapter, then its slices."""
    whole = Point(
        trial.number, evaluation.step, evaluation.adapter_params, evaluation.score, trial.settings,
        evaluation.nonzero_params, evaluation.metrics, trial.method, evaluation.seconds, evaluation.peak_memory,
    )  # fmt: skip
    return [whole] + [
        replace(
            whole, adapter_params=slice_.adapter_params, nonzero_params=slice_.adapter_params, score=slice_.score,
            metrics=slice_.metrics, component_masks=slice_.component_masks, cut_from=whole.adapter_params,
        )
        for slice_ in evaluation.slices
    ]  # fmt: skip


def ranks_at(point: Point, trials: Sequence[TrialRecord]) -> dict[str, int]:
    """The rank of each layer at a point.

    Args:
        point: The point.
        trials: All trials, by number.

    Returns:
        Layer name -> rank; empty for methods without low-rank updates.
    """
    if point.component_masks is not None:
        return {name: mask.bit_count() for name, mask in point.component_masks.items()}
    return next(e.ranks for e in trials[point.trial].evaluations if e.step == point.step)
