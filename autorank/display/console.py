"""The console that commands print to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def terminal(quiet: bool = False) -> Console:
    """Return a console on stdout that prints text unchanged: no markup, no highlighting, no wrapped lines.

    Args:
        quiet: Print nothing.

    Returns:
        The console.
    """
    from rich.console import Console

    return Console(highlight=False, force_jupyter=False, quiet=quiet, markup=False, soft_wrap=True)
