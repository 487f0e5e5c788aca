"""Searches whose trials have predictions, made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import predictions
from tests.trials.trial_factories import snapshot, trial

EXAMPLES = 400
rng = np.random.default_rng(0)
DIFFICULTY = rng.random(EXAMPLES)
LABELS = rng.integers(0, 2, EXAMPLES)


def model(accuracy: float, shift: int = 0, labels: np.ndarray = LABELS) -> Outcomes:
    """Return a model that is right on the easiest share of the examples; `shift` rotates which are easy."""
    right = np.roll(DIFFICULTY, shift).argsort().argsort() < accuracy * EXAMPLES
    return Outcomes("accuracy", np.where(right, labels, 1 - labels)[:, None], labels[:, None], (EXAMPLES,))


def search_with_predictions(
    folder: Path, trials: list[TrialRecord], models: dict[int, Outcomes], **values: Any
) -> Snapshot:
    """A search whose trials, with one evaluation each, have these predictions."""
    for number, outcomes in models.items():
        predictions.write(pack([outcomes]), folder, number, 10)
    return replace(snapshot(trials), folder=folder, **values)


def small_search(folder: Path) -> Snapshot:
    """Two points of the methods, a third near the front, and two of the baseline."""
    trials = [
        trial(0, (100, 0.8)), trial(1, (40, 0.6)), trial(2, (50, 0.7), baseline=True),
        trial(3, (90, 0.79), baseline=True), trial(4, (110, 0.78)),
    ]  # fmt: skip
    models = {0: model(0.8), 1: model(0.6), 2: model(0.7), 3: model(0.79, shift=70), 4: model(0.78, shift=30)}
    return search_with_predictions(folder, trials, models)
