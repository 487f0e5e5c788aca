"""How certain the points of a front are, from the predictions of their models: a paired bootstrap over examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes
from autorank.tasks.metrics.resampling import bootstrap_scores
from autorank.trials.front import costs
from autorank.trials.point import Point, PointKey
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics import bootstrap, predictions

RESAMPLES = 1000
SEED = 0
MAX_NEAR_FRONT_POINTS = 64  # points off the front that take part: those with the smallest deficit (ours)

Model = tuple[Point, Outcomes]


@dataclass(frozen=True)
class Certainty:
    """Certainty of one point. Intervals contain 90% of the resamples.

    Attributes:
        low, high: Interval of the score.
        on_front: Probability of being on the front, among the points on it and near it.
        knee: Probability of being the knee.
        gain_low, gain_high: Interval of the gain over the best point of the baseline with no more parameters; None
            without one.
        better: Probability that this gain is above 0.
    """

    low: float
    high: float
    on_front: float
    knee: float
    gain_low: float | None = None
    gain_high: float | None = None
    better: float | None = None


@dataclass(frozen=True)
class FrontCertainty:
    """Certainty of a front.

    Attributes:
        points: Key of a point -> its certainty; of all points of the front with predictions.
        examples: Number of validation examples, the units that are resampled.
        missing: Points of the front without predictions.
        expected_drop: By how much the best score is expected to drop on new examples.
        knee: Interval of the knee's adapter parameters.
    """

    points: Mapping[PointKey, Certainty]
    examples: int
    missing: int
    expected_drop: float
    knee: tuple[int, int]


def assess(snapshot: Snapshot) -> FrontCertainty | None:
    """Assess the front of a search.

    Args:
        snapshot: The search.

    Returns:
        The certainty; None if no point of the front has predictions.
    """
    keys = {point.key for point in snapshot.points}
    models = comparable(predictions.candidates(snapshot), keys)
    fronts = [model for model in models if model[0].key in keys]
    if not fronts:
        return None
    near = [model for model in models if model[0].key not in keys]
    near.sort(key=lambda model: (predictions.deficit(model[0], snapshot.points), model[0].precedence))
    models = sorted([*fronts, *near[:MAX_NEAR_FRONT_POINTS]], key=lambda m: (m[0].adapter_params, m[0].precedence))
    reference = sample_of(models[0][1])
    baseline = [model for model in _baseline(snapshot) if sample_of(model[1]) == reference]
    outcomes = [outcomes for _, outcomes in [*models, *baseline]]
    scores = bootstrap_scores(outcomes, RESAMPLES, np.random.default_rng(SEED)).astype(np.float64)
    return _describe(snapshot, [p for p, _ in models], [p for p, _ in baseline], scores, len(keys) - len(fronts),
                     len(models[0][1]))  # fmt: skip


def _describe(
    snapshot: Snapshot, points: Sequence[Point], baseline: Sequence[Point], scores: bootstrap.Array, missing: int,
    examples: int,
) -> FrontCertainty:  # fmt: skip
    front_scores, baseline_scores = scores[:, : len(points)], scores[:, len(points) :]
    params = np.array([float(point.adapter_params) for point in points])
    front = bootstrap.on_front(front_scores, np.array([costs(point, snapshot.third_objective) for point in points]))
    knees = bootstrap.knees(front_scores, params, front)
    keys = {point.key for point in snapshot.points}
    certainties = {}
    for index, point in enumerate(points):
        if point.key in keys:
            gains = gain_draws(point, front_scores[:, index], snapshot.baseline, baseline, baseline_scores)
            certainties[point.key] = _certainty(front_scores[:, index], front[:, index], knees == index, gains)
    low, high = np.quantile(
        params[knees], [(1 - bootstrap.INTERVAL_LEVEL) / 2, (1 + bootstrap.INTERVAL_LEVEL) / 2], method="nearest"
    )
    observed = np.array([point.score for point in points])
    return FrontCertainty(
        points=certainties, examples=examples, missing=missing, knee=(int(low), int(high)),
        expected_drop=bootstrap.expected_drop(front_scores, observed),
    )  # fmt: skip


def _certainty(
    scores: bootstrap.Array, on_front: np.ndarray, is_knee: np.ndarray, gains: bootstrap.Array | None
) -> Certainty:
    """The certainty of a point whose score, membership of the front, role of the knee and gain are known by draw."""
    low, high = bootstrap.interval(scores)
    certainty = Certainty(low=low, high=high, on_front=float(on_front.mean()), knee=float(is_knee.mean()))
    if gains is None:
        return certainty
    gain_low, gain_high = bootstrap.interval(gains)
    return replace(certainty, gain_low=gain_low, gain_high=gain_high, better=float((gains > 0).mean()))


def gain_draws(
    point: Point, scores: bootstrap.Array, front: Sequence[Point], points: Sequence[Point], baseline: bootstrap.Array
) -> bootstrap.Array | None:
    """Gains over the best point of the baseline with no more parameters.

    Args:
        point: The point.
        scores: Its scores, `draws`.
        front: The baseline's front.
        points: The points of the baseline with predictions.
        baseline: Their scores, `draws x points`.

    Returns:
        The gains, `draws`; None if there is no such point, or it has no predictions.
    """
    smaller = [other for other in front if other.adapter_params <= point.adapter_params]
    best = max(smaller, key=lambda other: other.score, default=None)
    index = next((i for i, other in enumerate(points) if best is not None and other.key == best.key), None)
    return None if index is None else scores - baseline[:, index]


def comparable(models: Sequence[Model], preferred: set[PointKey]) -> list[Model]:
    """The models that were scored on the same examples: the largest such group among the preferred ones.

    Args:
        models: Points and their outcomes.
        preferred: Keys of points that are counted.

    Returns:
        The models of the group.
    """
    counts = Counter(sample_of(outcomes) for point, outcomes in models if point.key in preferred)
    if not counts:
        return []
    largest = counts.most_common(1)[0][0]
    return [model for model in models if sample_of(model[1]) == largest]


def sample_of(outcomes: Outcomes) -> tuple[str, tuple[int, ...], bytes]:
    """Return what models have in common that were scored on the same examples, for comparisons.

    Args:
        outcomes: Outcomes of a model.

    Returns:
        Formula, sizes of the splits, and what all models share.
    """
    return outcomes.formula, outcomes.splits, np.ascontiguousarray(outcomes.reference).tobytes()


def _baseline(snapshot: Snapshot) -> list[Model]:
    keys = {point.key for point in snapshot.baseline}
    return [model for model in predictions.candidates(snapshot, baseline=True) if model[0].key in keys]
