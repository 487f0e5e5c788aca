"""The page that compares searches."""

from __future__ import annotations

from collections.abc import Sequence

from autorank.reporting import compare
from autorank.reporting.html import figures, trace_styles
from autorank.reporting.html.document import Cell, Column, Figure, HtmlTable, render_page
from autorank.reporting.search_results import SearchResults


def render_comparison(searches: Sequence[SearchResults], rows: Sequence[compare.ComparisonRow]) -> str:
    """The page with the fronts of all searches in one figure, and the table.

    Args:
        searches: The searches, the first of which the others are compared with.
        rows: The rows of `autorank.reporting.compare.compare`.

    Returns:
        The HTML file's text.
    """
    columns = [Column("search"), *(Column(name, number=True) for name in compare.COLUMNS)]
    table = HtmlTable(columns, [[Cell(text) for text in (row.name, *compare.cells(row))] for row in rows])
    title = " and ".join(search.spec.name for search in searches)
    notes = compare.NOTE.split("\n")
    return render_page("comparison", title, {"front": _fronts(searches)}, rows=table, notes=notes)


def _fronts(searches: Sequence[SearchResults]) -> Figure:
    """The fronts as stairs with markers."""
    traces = []
    right = max(p.adapter_params for search in searches for p in search.snapshot.points)
    for index, search in enumerate(searches):
        name, color = trace_styles.escape_tags(search.spec.name), trace_styles.series_color(index)
        traces.append(figures.stair(search.snapshot.points, right, color, name))
        marker = {"color": color, "symbol": trace_styles.SYMBOLS[index % trace_styles.HUES], "size": 9}
        traces.append(figures.point_markers(search.snapshot.points, name, marker, showlegend=False))
    return figures.set_params_axis({"data": traces, "layout": figures.layout("adapter parameters", "score", 480)})
