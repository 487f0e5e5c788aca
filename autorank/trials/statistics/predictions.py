"""Files with the outcomes of each validation example: of evaluations near a front, and of points trained again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from autorank import atomic_io
from autorank.tasks.metrics.outcomes import Outcomes, unpack
from autorank.tasks.metrics.resampling import FORMULAS, resampled
from autorank.trials.limits import admitted
from autorank.trials.point import Point, points_of
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)

FOLDER = "predictions"  # in the directory of a search
TOLERANCE = 0.002  # largest accepted difference between a recorded score and the one recomputed from predictions (ours)
MAX_KEPT = 100  # evaluations nearest to a front whose predictions are kept (ours)


def predictions_path(folder: Path, trial: int, step: int, *confirmation: int) -> Path:
    """Path of the predictions of an evaluation and its slices, or of one point that was trained again.

    Args:
        folder: Directory of the search.
        trial: Number of the trial.
        step: Optimizer step of the evaluation.
        *confirmation: Parameters of the point, and the seed of the new training; empty for the evaluation itself.

    Returns:
        Path of the file.
    """
    return folder / FOLDER / f"{'-'.join(map(str, (trial, step, *confirmation)))}.npz"


def write(content: bytes, folder: Path, trial: int, step: int, *confirmation: int) -> None:
    """Write predictions if there are any.

    Args:
        content: The predictions as `tasks.metrics.outcomes.pack` compresses them; empty if there are none.
        folder: Directory of the search.
        trial: Number of the trial.
        step: Step of the evaluation.
        *confirmation: Parameters of the point and seed of a retrained point; see `predictions_path`.
    """
    if content:
        with atomic_io.writing(predictions_path(folder, trial, step, *confirmation)) as partial:
            partial.write_bytes(content)


def read(file: Path, scores: Sequence[float]) -> list[Outcomes]:
    """Read predictions.

    Args:
        file: See `predictions_path`.
        scores: The score of each model.

    Returns:
        The outcomes of each model: the adapter and its slices, in their order. Empty if the file is missing or damaged,
        if its score has no formula for resampled examples, or if another score than the recorded one follows from it.
    """
    try:
        models = unpack(file.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logger.warning("%s: %s", file, error)
        return []
    if models and models[0].formula not in FORMULAS:
        _warn_of_formula(file.parent, models[0].formula)
        return []
    return models if _have_scores(models, scores) else []


def _have_scores(models: Sequence[Outcomes], scores: Sequence[float]) -> bool:
    """Whether the recorded scores follow from the outcomes."""
    if len(models) != len(scores):
        return False
    try:
        with np.errstate(all="ignore"):
            computed = resampled(models, np.ones((1, len(models[0])), np.float32))[0]
    except (ValueError, IndexError):  # another shape than the formula expects
        return False
    return bool((np.abs(computed - np.array(scores)) < TOLERANCE).all())


@cache
def _warn_of_formula(folder: Path, formula: str) -> None:
    """Warn once of each directory."""
    logger.warning(
        "%s: the score %r cannot be computed on resampled examples, so there are no intervals.", folder, formula
    )


def candidates(snapshot: Snapshot, baseline: bool = False) -> list[tuple[Point, Outcomes]]:
    """The points with predictions: of the front and near it.

    Args:
        snapshot: The search.
        baseline: Use the baseline's trials only; otherwise all other trials.

    Returns:
        Points within the limits, and their outcomes.
    """
    pairs: list[tuple[Point, Outcomes]] = []
    for file, points in _evaluations(snapshot):
        if snapshot.trials[points[0].trial].baseline == baseline:
            outcomes = read(file, [point.score for point in points])
            pairs += zip(points[: len(outcomes)], outcomes, strict=True)
    return [(point, outcomes) for point, outcomes in pairs if admitted(point, snapshot.objectives)]


def delete_unneeded(folder: Path, snapshot: Snapshot) -> None:
    """Delete predictions, except for the `MAX_KEPT` evaluations nearest to the fronts and for retrained points.

    Args:
        folder: Directory of the search.
        snapshot: The search, with its fronts.
    """
    fronts = {False: snapshot.points, True: snapshot.baseline}
    deficits = {
        file: min(
            deficit(point, fronts[snapshot.trials[point.trial].baseline])
            for point in points
            if admitted(point, snapshot.objectives)
        )
        for file, points in _evaluations(snapshot)
        if any(admitted(point, snapshot.objectives) for point in points)
    }
    kept = set(sorted(deficits, key=lambda file: (deficits[file], file.name))[:MAX_KEPT])
    keys = {point.key for point in (*snapshot.points, *snapshot.baseline)}
    kept |= {predictions_path(folder, *key[:2]) for key in keys}
    for file, numbers in _files(folder):
        if file not in kept and numbers[:3] not in keys:
            with contextlib.suppress(OSError):  # tried again at the next evaluation
                file.unlink()


def _evaluations(snapshot: Snapshot) -> Iterator[tuple[Path, list[Point]]]:
    """The files of evaluations, and the points of each: the adapter, then its slices."""
    if snapshot.folder is None:
        return
    for file, numbers in _files(snapshot.folder):
        if len(numbers) != 2 or numbers[0] >= len(snapshot.trials):
            continue
        trial = snapshot.trials[numbers[0]]
        for evaluation in trial.evaluations:
            if evaluation.step == numbers[1]:
                yield file, points_of(trial, evaluation)


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The files of predictions and the numbers in their names; other files are left out, such as copies."""
    for file in sorted((folder / FOLDER).glob("*.npz")):
        parts = file.stem.split("-")
        if len(parts) in (2, 4) and all(part.isascii() and part.isdigit() for part in parts):
            yield file, tuple(map(int, parts))


def deficit(point: Point, front: Sequence[Point]) -> float:
    """By how much a score is below the best of a front with at most as many parameters.

    Args:
        point: The point.
        front: The front.

    Returns:
        The difference of scores; negative for points that are better.
    """
    return max(
        (other.score - point.score for other in front if other.adapter_params <= point.adapter_params), default=0
    )
