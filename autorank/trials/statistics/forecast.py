"""How much hypervolume more trials are expected to add, from the trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autorank.spec import ObjectivesSpec
from autorank.trials.front import candidates, non_dominated
from autorank.trials.record import TrialRecord, ended_trials
from autorank.trials.snapshot import Snapshot

MIN_TRIALS = 6  # sampled trials; with fewer there is no forecast (ours)
RANDOM_SUBSETS = 200
QUANTILE = 0.975  # quantile of draws; 10% of the gains exceed it, as past trials do not know a later best (ours)
FLAT_GAIN_FRACTION = 0.002  # a search is flat if more trials are expected to add less of the hypervolume (ours)
FLAT_HORIZON_TRIALS = 10  # further trials by which it is decided whether a search is flat (ours)


@dataclass(frozen=True)
class Forecast:
    """What more trials are expected to add.

    Attributes:
        trials: Number of further trials.
        hypervolume: Hypervolume now.
        expected: Median of the gain in hypervolume.
        high: The gain is at most this with 90%. It may always be 0.
        mean: Mean of the gain, which large gains that are unlikely raise above the median.
    """

    trials: int
    hypervolume: float
    expected: float
    high: float
    mean: float

    @property
    def flat(self) -> bool:
        """Whether the trials are expected to add next to nothing."""
        return self.mean < FLAT_GAIN_FRACTION * self.hypervolume

    def __str__(self) -> str:
        return f"+{self.expected:.4f} expected from {self.trials} more trials (90%: at most {self.high:.4f})"


def forecast(snapshot: Snapshot, more: int) -> Forecast | None:
    """Forecast the gain in hypervolume of more trials (ours).

    Growth is alike at equal ratios of the number of trials, as it is for the maximum of independent draws: from n to
    n + N trials a front is expected to grow as from m = n² / (n + N) to n. So m of the sampled trials so far are drawn
    at random, many times, and joined by the first trials of each method, which are not sampled. The differences between
    their hypervolumes and that of all trials are the distribution of the gain.

    Args:
        snapshot: The search; trials of the baseline and those that run are left out.
        more: Number of further trials, those of the baseline included.

    Returns:
        The forecast; None with fewer than `MIN_TRIALS` sampled trials that have ended, without a point inside the box
        of the hypervolume, or without further trials.
    """
    ended = [trial for trial in ended_trials(snapshot.trials) if not trial.baseline]
    sampled = np.array([index for index, trial in enumerate(ended) if not trial.fixed])
    count = len(sampled)
    if count < MIN_TRIALS or more < 1:
        return None
    share = sum(not trial.baseline for trial in snapshot.trials) / len(snapshot.trials)  # of the further trials too
    subset_size = max(1, round(count**2 / (count + share * more)))
    draw = np.random.default_rng(count)
    chosen = np.ones((RANDOM_SUBSETS + 1, len(ended)), bool)
    for row in chosen[1:]:
        row[draw.choice(sampled, count - subset_size, replace=False)] = False
    volumes = subset_hypervolumes(ended, chosen, snapshot.reference, snapshot.objectives)
    if volumes[0] == 0:
        return None
    gains = volumes[0] - volumes[1:]
    middle, high = map(float, np.quantile(gains, [0.5, QUANTILE]))
    return Forecast(more, float(volumes[0]), middle, high, float(gains.mean()))


def subset_hypervolumes(
    trials: Sequence[TrialRecord], chosen: np.ndarray, reference: tuple[float, float], objectives: ObjectivesSpec
) -> np.ndarray:
    """Compute the hypervolumes of the fronts of subsets of trials.

    Args:
        trials: The trials.
        chosen: Which trials a subset has, `subsets x trials`.
        reference: Reference point of the hypervolume (parameters, score).
        objectives: Limits of the points.

    Returns:
        The hypervolumes, `subsets`.
    """
    # only points that their own trial does not dominate can be on a front
    points = [
        (float(point.adapter_params), point.score, index)
        for index, trial in enumerate(trials)
        for point in non_dominated(candidates([trial], objectives))
        if point.adapter_params < reference[0]
    ]
    if not points:
        return np.zeros(len(chosen))
    params, scores, owners = map(np.array, zip(*sorted(points), strict=True))
    heights, widths = np.maximum(scores - reference[1], 0.0), np.diff([*params, reference[0]])
    areas = [np.maximum.accumulate(np.where(subset[owners], heights, 0.0)) @ widths for subset in chosen]
    return np.array(areas) / (reference[0] * (1 - reference[1]))
