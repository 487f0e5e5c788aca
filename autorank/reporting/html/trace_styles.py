"""How the parts of figures look: a colour and a symbol for each method; and texts, escaped since Plotly reads tags."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from autorank.trials.snapshot import Snapshot

HUES = 8  # var(--hue-0) to var(--hue-7)
SYMBOLS = ("circle", "square", "triangle-up", "star", "triangle-down", "hexagon2", "pentagon", "hourglass")


class Look(NamedTuple):
    """How a method is drawn in all figures of a search: colour and symbol, so that either tells."""

    name: str  # in legends
    color: str
    symbol: str


def looks(snapshot: Snapshot) -> dict[str, Look]:
    """Method -> its look; the front's colour where there is one method.

    Of more methods than colours, those on the front come first, and what is left shares one look.
    """
    first = {point.method for point in snapshot.points}
    every = {trial.method for trial in snapshot.trials if not trial.control}
    methods = [*sorted(every & first), *sorted(every - first)]
    if len(methods) == 1:
        return {methods[0]: Look(safe(methods[0]), "var(--line)", "circle")}
    found = {m: Look(safe(m), hue(i), SYMBOLS[i]) for i, m in enumerate(methods[:HUES])}
    own = HUES if len(methods) <= HUES else min(len(first), HUES) or HUES
    rest = Look("other methods", "var(--quiet)", "circle-open")
    return {m: found[m] if i < own else rest for i, m in enumerate(methods)}


def hue(index: int) -> str:
    """The colour of a search's or a comparison's n-th part."""
    return f"var(--hue-{index % HUES})"


def safe(text: str) -> str:
    """A user's text as Plotly shows it letter by letter."""
    return escape(text, quote=False)
