"""What is known about the points of a front, from the predictions of a search and from new seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from autorank.trials.point import PointKey
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.certainty import Certainty, FrontCertainty, assess
from autorank.trials.statistics.confirmation_stats import Confirmed, summarize


@dataclass(frozen=True)
class FrontStatistics:
    """Statistics of the points of a front, by the key of the point.

    Attributes:
        confirmed: Statistics of the points that were trained again with new seeds.
        failed: Number of new seeds of the points with which all of them failed.
        predicted: Certainty of the front from the predictions on the validation examples; None without predictions.
    """

    confirmed: Mapping[PointKey, Confirmed]
    failed: Mapping[PointKey, int]
    predicted: FrontCertainty | None

    @property
    def certainties(self) -> Mapping[PointKey, Certainty]:
        """The certainty of each point from its predictions in the search, unless all of its new seeds failed."""
        points = {} if self.predicted is None else self.predicted.points
        return {key: certainty for key, certainty in points.items() if key not in self.failed}

    @property
    def known(self) -> Mapping[PointKey, Certainty | Confirmed]:
        """What is known about each point: from new seeds if it has them, otherwise from predictions."""
        return {**self.certainties, **self.confirmed}

    def new_seeds(self, key: PointKey) -> str:
        """Return the mean and the deviation of a point's scores with new seeds as text; empty without any."""
        return f"({self.failed[key]} failed)" if key in self.failed else str(self.confirmed.get(key, ""))

    @property
    def gain_probabilities(self) -> dict[PointKey, float]:
        """Probability that a point is better than plain LoRA with no more parameters.

        Like the gain of `best_gain`, it comes from new seeds if plain LoRA has them too, otherwise from predictions.
        """
        of_seeds = {key: stats.better for key, stats in self.confirmed.items() if stats.gain_over_baseline is not None}
        of_predictions = {key: certainty.better for key, certainty in self.certainties.items()}
        return {key: better for key, better in (of_predictions | of_seeds).items() if better is not None}


_last: list[tuple[Snapshot, FrontStatistics]] = []  # the tables and figures of a report ask for the same search


def front_statistics(snapshot: Snapshot) -> FrontStatistics:
    """Return the statistics of a search's front.

    Args:
        snapshot: The search.

    Returns:
        The statistics; those of the last snapshot are kept.
    """
    for known, statistics in _last:
        if known is snapshot:
            return statistics
    confirmed = summarize(snapshot.points, snapshot)
    results = Counter((trial, step, params) for trial, step, params, _ in snapshot.confirmed)
    failed = {point.key: results[point.key] for point in snapshot.points if point.key in results.keys() - confirmed}
    statistics = FrontStatistics(confirmed, failed, assess(snapshot))
    _last[:] = [(snapshot, statistics)]
    return statistics
