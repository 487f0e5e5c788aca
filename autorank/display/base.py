"""The interface of all displays of a search, and the quiet one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from typing_extensions import override

from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    from autorank.searching.search import Outcome


@dataclass(frozen=True)
class Locations:
    """Where a search is stored, and how commands find it.

    Attributes:
        folder: The search's directory.
        runs_option: ` --runs DIR` for suggested commands, or empty if it is the default.
        tracking_option: ` --tracking-uri URI`, or empty if it is the default.
        resume: The command that continues the search as in this session.
    """

    folder: Path
    runs_option: str = ""
    tracking_option: str = ""
    resume: str = ""


class Display:
    """Base class of all displays of a search; prints nothing but warnings.

    A context manager around the search.
    """

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the terminal."""

    def update(self, snapshot: Snapshot) -> None:
        """Display the search as it is now; called twice a second."""

    def inform(self, message: str) -> None:
        """Print an informational line, unless the display is quiet."""

    def warn(self, message: str) -> None:
        """Print a warning on stderr."""
        console = Console(file=sys.stderr, highlight=False, force_jupyter=False)
        console.print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)

    def end(self, outcome: Outcome) -> None:
        """Display the end of the search; called after `__exit__`."""


class Quiet(Display):
    """Prints the search's directory at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def end(self, outcome: Outcome) -> None:
        print(self._folder)
