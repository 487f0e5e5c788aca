"""Chooses the display of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from autorank.display.base import Display, Locations, Quiet

if TYPE_CHECKING:
    from autorank.spec import SearchSpec


def choose(
    spec: SearchSpec,
    locations: Locations,
    seconds: float | None,
    suggest_commands: bool,
    quiet: bool = False,
    json: bool = False,
) -> Display:
    """Choose the display of a search: a live table in a terminal, a progress bar in a notebook, otherwise lines.

    Args:
        spec: The search.
        locations: Where it is stored.
        seconds: Its time budget in seconds, or None.
        suggest_commands: Print suggested commands at the end.
        quiet: Print only warnings, and the search's directory at the end.
        json: Print events for programs.

    Returns:
        The display, a context manager.
    """
    from autorank.display.events import Events
    from autorank.display.lines import Lines
    from autorank.display.live_table import LiveTable
    from autorank.display.notebook import ProgressBar

    if json:
        return Events(spec, locations.folder)
    if quiet:
        return Quiet(locations.folder)
    if Console().is_jupyter:
        return ProgressBar(spec, seconds, locations)
    console = Console(highlight=False, markup=False)  # settings may have brackets
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console, spec, seconds, locations, suggest_commands)
    return Lines(console, spec, locations, suggest_commands)
