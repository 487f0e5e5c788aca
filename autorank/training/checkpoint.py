"""A run's checkpoint: all that it needs to go on, and the evaluations that it has made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from autorank import atomic_io
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun


def save(path: Path, run: TrainingRun, evaluations: Sequence[Evaluation]) -> None:
    """Write what `run` needs to go on, and all of its evaluations so far; a reader sees the old file or the new one."""
    with atomic_io.writing(path) as partial:
        made = [evaluation.to_dict() | {"predictions": evaluation.predictions} for evaluation in evaluations]
        torch.save({"state": run.state_dict(), "evaluations": made}, partial)


def load(path: Path, run: TrainingRun) -> list[Evaluation]:
    """Let a fresh run go on from a checkpoint, and return its evaluations so far; none if there is no checkpoint.

    Raises:
        AutorankError: the checkpoint is another run's.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        found = torch.load(file, map_location="cpu", weights_only=True)
    run.load_state_dict(found["state"])
    return [Evaluation.from_dict(values) for values in found["evaluations"]]
