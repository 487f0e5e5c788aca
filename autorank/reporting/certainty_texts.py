"""Sentences about the certainty of a front, for tables, reports and model cards."""

from __future__ import annotations

from autorank.errors import counted
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.certainty import RESAMPLES, Certainty
from autorank.trials.statistics.confirmation_stats import Confirmed
from autorank.trials.statistics.front_statistics import front_statistics


def interval_text(certainty: Certainty | Confirmed | None) -> str:
    """The interval of a score, `0.841-0.902`; empty if it is unknown."""
    if certainty is None or certainty.low is None or certainty.high is None:
        return ""
    return f"{certainty.low:.3f}-{certainty.high:.3f}"


def percent(probability: float | None) -> str:
    """A probability in percent; empty if it is unknown."""
    return "" if probability is None else f"{probability:.0%}"


def front_notes(snapshot: Snapshot) -> list[str]:
    """What is known about a front from the predictions of its points.

    Args:
        snapshot: The search; its front is not empty.

    Returns:
        Sentences; one alone if there are no predictions.
    """
    certainty = front_statistics(snapshot).predicted
    probabilities = "a point is on the front, and better than plain LoRA with at most as many parameters."
    if snapshot.confirmed:
        notes = [
            "confirmed: mean and standard deviation of the scores with new seeds; on front, better: probabilities, "
            f"over seeds and examples, that {probabilities}"
        ]
    elif certainty is None:
        return ["No intervals: this search has no usable predictions on the validation examples."]
    else:
        notes = [
            f"90%: interval of the score over {RESAMPLES:,} resamples of the {certainty.examples:,} validation "
            f"examples; on front, better: shares of the resamples in which {probabilities}"
        ]
    if certainty is None:
        return notes
    knee = next(point for point in snapshot.points if point.knee)
    if knee.key in certainty.points:
        low, high = certainty.knee
        probability = percent(certainty.points[knee.key].knee)
        sizes = f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"
        notes.append(f"The knee is this point in {probability} of the resamples; in 90% it has {sizes}.")
    if certainty.expected_drop >= 0.00005:
        seeds = "" if snapshot.confirmed else " With other seeds it may drop further (--confirm-seeds)."
        notes.append(
            f"Selection bias: the best score is expected to drop by {certainty.expected_drop:.4f} on new examples."
            f"{seeds}"
        )
    if certainty.missing:
        notes.append(f"{counted(certainty.missing, 'point')} of the front without predictions: no interval.")
    return notes
