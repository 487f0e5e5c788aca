"""Display in a terminal: a live table."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from autorank.display.base import Display, Locations
from autorank.display.formatting import sampled, thinned, title
from autorank.display.progress import Pace
from autorank.display.summary import finish
from autorank.reporting.tables import NOTHING, front_table
from autorank.spec import SearchSpec
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome

RUNNING = 8  # running trials in the table, which fits a terminal of 24 lines


class LiveTable(Display):
    """A table that is redrawn in place, and replaced by the whole front at the end.

    Args:
        console: The console.
        spec: The search.
        seconds: Its time budget in seconds, or None.
        locations: Where it is stored.
        suggest_commands: Print suggested commands at the end.
    """

    def __init__(
        self, console: Console, spec: SearchSpec, seconds: float | None, locations: Locations, suggest_commands: bool
    ) -> None:
        self._console, self._spec, self._locations, self._suggest_commands = console, spec, locations, suggest_commands
        self._board = Board(spec, Pace(seconds))
        self._live = Live(self._board.render(NOTHING), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @override
    def update(self, snapshot: Snapshot) -> None:
        self._live.update(self._board.render(snapshot))

    @override
    def inform(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    @override
    def warn(self, message: str) -> None:
        if sys.__stderr__ is not None and sys.__stderr__.isatty():  # the table would overwrite it
            self._console.print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)
        else:
            super().warn(message)

    @override
    def end(self, outcome: Outcome) -> None:
        finish(self._console, self._spec, outcome, self._locations, self._suggest_commands)


class Board:
    """The content of the table.

    Args:
        spec: The search.
        pace: Measures its progress.
    """

    def __init__(self, spec: SearchSpec, pace: Pace) -> None:
        self._spec, self._pace = spec, pace
        self._front: tuple[Any, Table] | None = None  # the last table, and what it was made of

    def render(self, snapshot: Snapshot) -> RenderableType:
        """Return title, progress, results, running trials and the present front; no line is wrapped.

        Args:
            snapshot: The search as it is now.

        Returns:
            What rich prints.
        """
        progress = self._pace(snapshot)
        parts = [f"{progress.ended}/{progress.requested} trials" if progress.requested else "starting", *progress.pace]
        if snapshot.confirmed:
            parts.insert(1, f"{len(snapshot.confirmed)} confirmations")
        rows: list[RenderableType] = [title(self._spec), _line(", ".join(parts))]
        if progress.requested:
            rows.append(_line(", ".join([*progress.result, *progress.states])))
        running = [trial for trial in snapshot.trials if trial.state == "running"]
        rows += [_running(trial, len(self._spec.entries) > 1) for trial in running[:RUNNING]]
        if len(running) > RUNNING:
            rows.append(_line(f"  and {len(running) - RUNNING} more", "dim"))
        if snapshot.points:
            rows += [Text(), self._front_table(snapshot)]
        return Group(*rows)

    def _front_table(self, snapshot: Snapshot) -> Table:
        """The front, without certainty, which takes a second to compute; made again only after a change."""
        state = snapshot.points, snapshot.baseline, dict(snapshot.confirmed)
        if self._front is None or self._front[0] != state:
            points, quick = thinned(snapshot.points), replace(snapshot, folder=None)
            self._front = state, front_table(points, quick, self._spec.searched_settings, wrap=False)
        return self._front[1]


def _running(trial: TrialRecord, several: bool) -> Text:
    last = "training"
    if trial.evaluations:
        last = f"epoch {trial.evaluations[-1].epoch:.1f}, score {trial.evaluations[-1].score:.4f}"
    method = f"{trial.method}, " if several else ""
    return _line(f"  trial {trial.number}: {last}  ({method}{sampled(trial)})", "dim")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="ellipsis", no_wrap=True)
