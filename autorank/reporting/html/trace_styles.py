"""The style of each method in figures, a color and a symbol, and texts escaped for Plotly, which renders HTML tags."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from autorank.trials.snapshot import Snapshot

HUES = 8  # var(--hue-0) to var(--hue-7)
SYMBOLS = ("circle", "square", "triangle-up", "star", "triangle-down", "hexagon2", "pentagon", "hourglass")


class TraceStyle(NamedTuple):
    """The style of a method's traces. Color and symbol both identify the method.

    Attributes:
        name: The name in legends.
        color: A CSS color.
        symbol: Plotly's name of a marker.
    """

    name: str
    color: str
    symbol: str


def method_styles(snapshot: Snapshot) -> dict[str, TraceStyle]:
    """The style of each method.

    If there are more methods than colors, those on the front come first, and the rest share one style.

    Args:
        snapshot: The trials and the front.

    Returns:
        Method -> style; a single method has the color of the front.
    """
    on_front = {point.method for point in snapshot.points}
    searched = {trial.method for trial in snapshot.trials if not trial.baseline}
    methods = [*sorted(searched & on_front), *sorted(searched - on_front)]
    if len(methods) == 1:
        return {methods[0]: TraceStyle(escape_tags(methods[0]), "var(--line)", "circle")}
    styles = {m: TraceStyle(escape_tags(m), series_color(i), SYMBOLS[i]) for i, m in enumerate(methods[:HUES])}
    distinct = HUES if len(methods) <= HUES else min(len(on_front), HUES) or HUES
    rest = TraceStyle("other methods", "var(--quiet)", "circle-open")
    return {m: styles[m] if i < distinct else rest for i, m in enumerate(methods)}


def series_color(index: int) -> str:
    """The CSS color of the n-th method or search."""
    return f"var(--hue-{index % HUES})"


def escape_tags(text: str) -> str:
    """A text that Plotly shows literally."""
    return escape(text, quote=False)
