"""Where there is no terminal: a line a trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from autorank.display.base import Display, Places
from autorank.display.formatting import drawn, news, title
from autorank.display.summary import finish
from autorank.reporting.tables import count
from autorank.spec import SearchSpec
from autorank.trials.record import TrialRecord, best
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


class Lines(Display):
    """A line for each trial that ends from now on, and for each confirmation."""

    def __init__(self, console: Console, spec: SearchSpec, places: Places, commands: bool) -> None:
        self._console, self._spec, self._places, self._commands = console, spec, places, commands
        self._started = time.time()
        self._told: set[int] = set()
        self._confirmed: Mapping[tuple[int, int, int], Any] | None = None

    def __enter__(self) -> Lines:
        self._line(title(self._spec).plain)
        return self

    def update(self, snapshot: Snapshot) -> None:
        done = sorted((t for t in snapshot.trials if t.state != "running"), key=lambda trial: trial.ended)
        for place, trial in enumerate(done, start=1):
            if trial.ended >= self._started and trial.number not in self._told:
                self._told.add(trial.number)
                self._line(f"[{place}/{snapshot.wanted}] trial {trial.number} {self._about(trial)}")
        for key, result in news(snapshot.confirmed if self._confirmed is None else self._confirmed, snapshot.confirmed):
            came_to = f"score {result['score']:.4f}" if "score" in result else f"failed: {result['failed']}"
            self._line(f"trial {key[0]}, step {key[1]} again with seed {key[2]}: {came_to}")
        self._confirmed = snapshot.confirmed

    def end(self, outcome: Outcome) -> None:
        finish(self._console, self._spec, outcome, self._places, self._commands)

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _about(self, trial: TrialRecord) -> str:
        top = best(trial.evaluations)
        result = f"{count(top.adapter_params)} parameters, score {top.score:.4f}" if top else "no score"
        why = f" ({trial.reason})" if trial.reason else ""
        method = f"{trial.method}, " if len(self._spec.entries) > 1 else ""
        return f"{trial.state}{why}: {result}  {method}{drawn(trial)}"
