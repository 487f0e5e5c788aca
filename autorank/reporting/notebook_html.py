"""Tables as HTML, for notebooks."""

from __future__ import annotations

from html import escape
from itertools import zip_longest

from rich.table import Table
from rich.text import Text


def table_html(table: Table) -> str:
    """A table of plain cells as HTML, without styles of its own but for bold rows and aligned columns."""
    sides = [column.justify if column.justify == "right" else "left" for column in table.columns]
    heads = "".join(_cell("th", column.header, side) for column, side in zip(table.columns, sides, strict=True))
    lines = []
    for row, cells in zip(table.rows, zip_longest(*(column.cells for column in table.columns)), strict=True):
        line = "".join(_cell("td", cell, side) for cell, side in zip(cells, sides, strict=True))
        lines.append(f'<tr style="font-weight: bold">{line}</tr>' if row.style else f"<tr>{line}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(tag: str, content: object, side: str) -> str:
    text = content.plain if isinstance(content, Text) else str(content)
    return f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'
