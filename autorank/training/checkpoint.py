"""Checkpoints of a run: its state, with which it can be resumed, and its evaluations so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from autorank import atomic_io
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun


def save(path: Path, run: TrainingRun, evaluations: Sequence[Evaluation]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file.
        run: The run.
        evaluations: All evaluations of the run so far.
    """
    with atomic_io.writing(path) as partial:
        records = [evaluation.to_dict() | _predictions(evaluation) for evaluation in evaluations]
        torch.save({"state": run.state_dict(), "evaluations": records}, partial)


def read(path: Path) -> tuple[dict[str, Any] | None, list[Evaluation]]:
    """Read a checkpoint.

    Args:
        path: The file, which may be missing.

    Returns:
        The state of the run and its evaluations so far; None and no evaluations if there is no checkpoint.
    """
    if not path.is_file():
        return None, []
    with path.open("rb") as file:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    return checkpoint["state"], [Evaluation.from_dict(values) for values in checkpoint["evaluations"]]


def load(path: Path, run: TrainingRun) -> list[Evaluation]:
    """Resume a new run from a checkpoint.

    Args:
        path: The file, which may be missing.
        run: The run, which has not started yet.

    Returns:
        The evaluations so far; empty if there is no checkpoint.

    Raises:
        AutorankError: The checkpoint belongs to another run.
    """
    state, evaluations = read(path)
    if state is not None:
        run.load_state_dict(state)
    return evaluations


def _predictions(evaluation: Evaluation) -> dict[str, bytes]:
    """Predictions as they are stored: left out if there are none, since torch's safe loader refuses empty bytes."""
    return {"predictions": evaluation.predictions} if evaluation.predictions else {}
