"""How often the intervals of searches held, checked with the new seeds of their fronts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autorank.trials.statistics.bootstrap import interval
from autorank.trials.statistics.certainty import assess
from autorank.trials.statistics.seed_variance import draw_variances
from benchmarks.study.results import Result

DRAWS = 4000


@dataclass(frozen=True)
class Calibration:
    """Counts over the fronts of some searches.

    Attributes:
        points: Points that were retrained and have an interval from the search.
        in_search: Those whose mean over new seeds is in this interval, which covers examples only.
        left_out: Scores of one seed that were predicted from the other seeds, of points with three seeds or more.
        predicted: Those in the predicted 90 % interval.
        expected: By how much the best score was expected to fall, mean over the searches with predictions, if any.
        loss: By how much it fell, mean over the searches.
    """

    points: int
    in_search: int
    left_out: int
    predicted: int
    expected: float | None
    loss: float


def calibration(results: Sequence[Result]) -> Calibration:
    """Compare intervals and expected losses with new seeds.

    Args:
        results: Complete searches.

    Returns:
        The counts.
    """
    in_search = [inside for result in results for inside in _in_search(result)]
    predicted = [inside for result in results for inside in left_out([e.sample.scores for e in result.front])]
    expected = [result.expected_loss for result in results if result.expected_loss is not None]
    return Calibration(
        len(in_search), sum(in_search), len(predicted), sum(predicted), float(np.mean(expected)) if expected else None,
        float(np.mean([result.loss for result in results])),
    )  # fmt: skip


def _in_search(result: Result) -> list[bool]:
    """For each retrained point with an interval: whether it contains the mean of the new seeds."""
    certainty = assess(result.snapshot)
    known = {} if certainty is None else certainty.points
    pairs = [(known[entry.point.key], entry.sample.mean) for entry in result.front if entry.point.key in known]
    return [point.low <= mean <= point.high for point, mean in pairs]


def left_out(scores: Sequence[np.ndarray]) -> list[bool]:
    """Predict the last seed's score of each point from the others, with the variances that `summarize` uses.

    All seeds are scored on the same examples, so this checks what is assumed about seeds.

    Args:
        scores: Those of each point's seeds.

    Returns:
        For each point with three seeds or more: whether the score is in the 90 % interval.
    """
    used = [values[:-1] for values in scores if len(values) > 2]
    held = [values[-1] for values in scores if len(values) > 2]
    if not used:
        return []
    random = np.random.default_rng(0)
    variances = draw_variances(
        np.array([values.var(ddof=1) for values in used]), np.array([len(values) - 1.0 for values in used]),
        DRAWS, random,
    )  # fmt: skip
    scale = np.sqrt(variances * (1 + 1 / np.array([len(values) for values in used])))
    drawn = np.array([values.mean() for values in used]) + scale * random.standard_normal(scale.shape)
    ends = [interval(column) for column in drawn.T]
    return [low <= value <= high for (low, high), value in zip(ends, held, strict=True)]
