"""Formatting that several displays share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from autorank.reporting.tables import settings
from autorank.spec import SearchSpec
from autorank.trials.point import Point
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import ConfirmationKey, Confirmations

MAX_POINTS = 6  # points of the front in the live table


def title(spec: SearchSpec, note: str = "") -> Text:
    """Return the search, its methods and its task in one line.

    Args:
        spec: The search.
        note: Text to append.

    Returns:
        The line.
    """
    description = spec.title.removeprefix(f"{spec.name}: ")
    return Text.assemble((spec.name, "bold"), f"  {description}{note}", overflow="ellipsis", no_wrap=True)


def sampled(trial: TrialRecord) -> str:
    """Return the sampled settings of a trial."""
    return settings({name: trial.settings[name] for name in trial.sampled if name in trial.settings})


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most `MAX_POINTS` points, evenly spread, both ends and the knee included."""
    if len(points) <= MAX_POINTS:
        return list(points)
    chosen = {round(i * (len(points) - 1) / (MAX_POINTS - 2)) for i in range(MAX_POINTS - 1)}
    chosen |= {i for i, point in enumerate(points) if point.knee}
    return [points[i] for i in sorted(chosen)]


def new_confirmations(before: Confirmations, after: Confirmations) -> list[tuple[ConfirmationKey, Mapping[str, Any]]]:
    """Return the confirmations that ended or were repeated since, as pairs of key and result.

    Args:
        before: The earlier confirmations.
        after: The present ones.

    Returns:
        The pairs, sorted by key: (trial, step, parameters, seed).
    """
    return sorted((key, result) for key, result in after.items() if before.get(key) is not result)
