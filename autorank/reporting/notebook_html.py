"""Rich tables as HTML, for notebooks."""

from __future__ import annotations

from html import escape
from itertools import zip_longest

from rich.table import Table
from rich.text import Text


def table_html(table: Table) -> str:
    """A table as HTML; of its styles, bold rows and the alignment of columns are kept."""
    alignments = [column.justify if column.justify == "right" else "left" for column in table.columns]
    header = "".join(
        _cell("th", column.header, alignment) for column, alignment in zip(table.columns, alignments, strict=True)
    )
    lines = []
    for row, cells in zip(table.rows, zip_longest(*(column.cells for column in table.columns)), strict=True):
        line = "".join(_cell("td", cell, alignment) for cell, alignment in zip(cells, alignments, strict=True))
        lines.append(f'<tr style="font-weight: bold">{line}</tr>' if row.style else f"<tr>{line}</tr>")
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(tag: str, content: object, alignment: str) -> str:
    text = content.plain if isinstance(content, Text) else str(content)
    return f'<{tag} style="text-align: {alignment}">{escape(text)}</{tag}>'
