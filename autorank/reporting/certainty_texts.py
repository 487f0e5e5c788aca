"""Sentences about the certainty of a front, for tables, reports and model cards."""

from __future__ import annotations

from autorank.errors import counted
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.certainty import RESAMPLES, Certainty
from autorank.trials.statistics.confirmation_stats import Confirmed
from autorank.trials.statistics.front_statistics import FrontStatistics, front_statistics


def interval_text(certainty: Certainty | Confirmed | None) -> str:
    """The interval of a score, `0.841-0.902`; empty if it is unknown."""
    if certainty is None or certainty.low is None or certainty.high is None:
        return ""
    return f"{certainty.low:.3f}-{certainty.high:.3f}"


def percent(probability: float | None) -> str:
    """A probability in percent; empty if it is unknown."""
    return "" if probability is None else f"{probability:.0%}"


def front_notes(snapshot: Snapshot) -> list[str]:
    """What is known about a front from its new seeds and from the predictions of its points.

    Args:
        snapshot: The search; its front is not empty.

    Returns:
        Sentences; one alone if there are no predictions.
    """
    statistics = front_statistics(snapshot)
    certainty = statistics.predicted
    notes = [_columns(statistics)]
    if certainty is None:
        return notes
    knee = next(point for point in snapshot.points if point.knee)
    if knee.key in certainty.points:
        low, high = certainty.knee
        probability = percent(certainty.points[knee.key].knee)
        sizes = f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"
        notes.append(f"The knee is this point in {probability} of the resamples; in 90% it has {sizes}.")
    if certainty.expected_drop >= 0.00005:
        seeds = "" if statistics.confirmed else " With other seeds it may drop further (--confirm-seeds)."
        notes.append(
            f"Selection bias: the best score is expected to drop by {certainty.expected_drop:.4f} on new examples."
            f"{seeds}"
        )
    if certainty.missing:
        notes.append(f"{counted(certainty.missing, 'point')} of the front without predictions: no interval.")
    return notes


def _columns(statistics: FrontStatistics) -> str:
    """What the columns of the front's table mean."""
    probabilities = (
        "; on front, better: probability that a point is on the front, and better than plain LoRA with at most as many "
        "parameters, over "
    )
    if statistics.confirmed:
        varied = next(iter(statistics.confirmed.values())).varied
        others = " (without new seeds: over examples)" if statistics.certainties.keys() - statistics.confirmed else ""
        meaning = "confirmed: mean and standard deviation of the scores with new seeds"
        return meaning if varied is None else f"{meaning}{probabilities}{varied}{others}"
    failed = "confirmed: all new seeds of these points failed. " if statistics.failed else ""
    if statistics.predicted is None:
        return f"{failed}No intervals: this search has no usable predictions on the validation examples."
    return (
        f"{failed}90%: interval of the score over {RESAMPLES:,} resamples of the "
        f"{statistics.predicted.examples:,} validation examples{probabilities}these resamples"
    )
