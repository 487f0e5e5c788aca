"""Words and tables that the displays share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from autorank.reporting.tables import settings
from autorank.spec import SearchSpec
from autorank.trials.confirmation_stats import Results
from autorank.trials.front import Point
from autorank.trials.record import TrialRecord

ROWS = 6  # of the front, in the live table


def title(spec: SearchSpec, note: str = "") -> Text:
    """The search, its methods and its task, in a line."""
    rest = spec.title.removeprefix(f"{spec.name}: ")
    return Text.assemble((spec.name, "bold"), f"  {rest}{note}", overflow="ellipsis", no_wrap=True)


def drawn(trial: TrialRecord) -> str:
    """The settings that a sampler drew."""
    return settings({name: trial.config[name] for name in trial.drawn if name in trial.config})


def varied(spec: SearchSpec) -> list[str]:
    """The settings that are searched, of any method."""
    return list(dict.fromkeys(name for entry in spec.methods for name in entry.space))


def some(points: Sequence[Point]) -> list[Point]:
    """At most ROWS points, evenly spread, both ends and the knee among them."""
    if len(points) <= ROWS:
        return list(points)
    chosen = {round(i * (len(points) - 1) / (ROWS - 2)) for i in range(ROWS - 1)}
    chosen |= {i for i, point in enumerate(points) if point.knee}
    return [points[i] for i in sorted(chosen)]


def news(before: Results, now: Results) -> list[tuple[tuple[int, int, int], Mapping[str, Any]]]:
    """What confirmed points since: what failed before may have been tried again."""
    return sorted((key, result) for key, result in now.items() if before.get(key) is not result)
