"""The interface of all displays of a search, and the quiet one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


@dataclass(frozen=True)
class Places:
    """The folder of a search, and the options by which commands find it and its store: `runs` and `store`, each with a
    space before it, or empty."""

    folder: Path
    runs: str = ""
    store: str = ""


class Display:
    """Shows nothing but warnings; the base of all. `update` is called twice a second, with the search as it is."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def update(self, snapshot: Snapshot) -> None:
        """The search as it is now."""

    def warn(self, message: str) -> None:
        """Something that the user should know, but that stops nothing."""
        console = Console(file=sys.stderr, highlight=False, force_jupyter=False)
        console.print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)

    def end(self, outcome: Outcome) -> None:
        """The search has ended; called after `__exit__`."""


class Quiet(Display):
    """The search's folder, at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end(self, outcome: Outcome) -> None:
        print(self._folder)
