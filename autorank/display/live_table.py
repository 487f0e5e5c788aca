"""In a terminal: one table that keeps up with a search."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from autorank.display.base import Display, Places
from autorank.display.formatting import drawn, some, title, varied
from autorank.display.progress import Pace
from autorank.display.summary import finish
from autorank.reporting.tables import NOTHING, front_table
from autorank.spec import SearchSpec
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome

RUNNING = 8  # trials at work that are shown: with the front they fit a terminal of 24 lines


class LiveTable(Display):
    """The board, redrawn in place; gone at the end, when the whole front is printed."""

    def __init__(
        self, console: Console, spec: SearchSpec, seconds: float | None, places: Places, commands: bool
    ) -> None:
        self._console, self._spec, self._places, self._commands = console, spec, places, commands
        self._board = Board(spec, Pace(seconds))
        self._live = Live(self._board.render(NOTHING), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        self._live.update(self._board.render(snapshot))

    def warn(self, message: str) -> None:
        if sys.__stderr__ is not None and sys.__stderr__.isatty():  # it would be drawn over
            self._console.print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)
        else:
            super().warn(message)

    def end(self, outcome: Outcome) -> None:
        finish(self._console, self._spec, outcome, self._places, self._commands)


class Board:
    """The table's content."""

    def __init__(self, spec: SearchSpec, pace: Pace) -> None:
        self._spec, self._pace = spec, pace

    def render(self, snapshot: Snapshot) -> RenderableType:
        """Title, how far it is, what was found, trials at work and the front so far; no line is ever wrapped."""
        now = self._pace(snapshot)
        parts = [f"{now.ended}/{now.wanted} trials" if now.wanted else "starting", *now.pace]
        if snapshot.confirmed:
            parts.insert(1, f"{len(snapshot.confirmed)} confirmations")
        rows: list[RenderableType] = [title(self._spec), _line(", ".join(parts))]
        if now.wanted:
            rows.append(_line(", ".join([*now.result, *now.states])))
        running = [trial for trial in snapshot.trials if trial.state == "running"]
        rows += [_at_work(trial, len(self._spec.entries) > 1) for trial in running[:RUNNING]]
        if len(running) > RUNNING:
            rows.append(_line(f"  and {len(running) - RUNNING} more", "dim"))
        if snapshot.points:
            rows += [Text(), front_table(some(snapshot.points), snapshot, varied(self._spec), wrap=False)]
        return Group(*rows)


def _at_work(trial: TrialRecord, several: bool) -> Text:
    last = "training"
    if trial.evaluations:
        last = f"epoch {trial.evaluations[-1].epoch:.1f}, score {trial.evaluations[-1].score:.4f}"
    method = f"{trial.method}, " if several else ""
    return _line(f"  trial {trial.number}: {last}  ({method}{drawn(trial)})", "dim")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="ellipsis", no_wrap=True)
