"""Chooses the display of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from autorank.display.base import Display, Places, Quiet

if TYPE_CHECKING:
    from autorank.spec import SearchSpec


def choose(
    spec: SearchSpec, places: Places, seconds: float | None, commands: bool, quiet: bool = False, json: bool = False
) -> Display:  # fmt: skip
    """How a search is shown: one table that keeps up in a terminal, a progress bar in a notebook, elsewhere a line a
    trial; or as `quiet` or `json` ask for.

    Args:
        seconds: the search's time budget.
        commands: say in the end which commands come next.
    """
    from autorank.display.events import Events
    from autorank.display.lines import Lines
    from autorank.display.live_table import LiveTable
    from autorank.display.notebook import ProgressBar

    if json:
        return Events(spec, places.folder)
    if quiet:
        return Quiet(places.folder)
    if Console().is_jupyter:
        return ProgressBar(spec, seconds, places)
    console = Console(highlight=False, markup=False)  # settings may have brackets
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console, spec, seconds, places, commands)
    return Lines(console, spec, places, commands)
