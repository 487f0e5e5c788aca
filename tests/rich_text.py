"""The text that rich prints."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType


def printed_lines(content: RenderableType, width: int = 80) -> list[str]:
    """The lines of `content` on a terminal without colors, without spaces at their ends."""
    output = StringIO()
    Console(width=width, file=output, color_system=None).print(content)
    return [line.rstrip() for line in output.getvalue().splitlines()]
