"""Checkpoints of a run: its state, with which it can be resumed, and its evaluations so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from autorank import atomic_io
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun


def save(path: Path, run: TrainingRun, evaluations: Sequence[Evaluation]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        run: the run.
        evaluations: all evaluations of the run so far.
    """
    with atomic_io.writing(path) as partial:
        made = [evaluation.to_dict() | _predictions(evaluation) for evaluation in evaluations]
        torch.save({"state": run.state_dict(), "evaluations": made}, partial)


def load(path: Path, run: TrainingRun) -> list[Evaluation]:
    """Resume a new run from a checkpoint.

    Args:
        path: the file, which may be missing.
        run: the run, which has not started yet.

    Returns:
        The evaluations so far; empty if there is no checkpoint.

    Raises:
        AutorankError: the checkpoint belongs to another run.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    run.load_state_dict(checkpoint["state"])
    return [Evaluation.from_dict(values) for values in checkpoint["evaluations"]]


def _predictions(evaluation: Evaluation) -> dict[str, bytes]:
    """Predictions as they are stored: left out if there are none, since torch's safe loader refuses empty bytes."""
    return {"predictions": evaluation.predictions} if evaluation.predictions else {}
