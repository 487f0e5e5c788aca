"""A page that compares searches."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from autorank.reporting import compare
from autorank.reporting.html import figures, trace_styles
from autorank.reporting.html.document import Figure, document, plot, table


def page(searches: Sequence[compare.Searched], rows: Sequence[compare.Compared]) -> str:
    """One HTML file: the fronts in one picture, and the table."""
    names = " and ".join(each.spec.name for each in searches)
    note = "".join(f'<p class="note">{escape(line)}</p>' for line in compare.NOTE.split("\n"))
    columns = ["search", *(f"{column}>" for column in compare.COLUMNS)]
    found = table("compare-table", "Searches", columns, [[row.name, *compare.cells(row)] for row in rows])
    place = plot("front", "The fronts of all searches")
    body = f'<header><h1 id="title">{escape(names)}</h1></header><section id="fronts">{place}</section>'
    body += f'<section id="compared">{found}{note}</section>'
    return document(names, body, {"front": _fronts(searches)})


def _fronts(searches: Sequence[compare.Searched]) -> Figure:
    traces = []
    right = max(p.adapter_params for each in searches for p in each.snapshot.points)
    for index, each in enumerate(searches):
        name, color = trace_styles.safe(each.spec.name), trace_styles.hue(index)
        traces.append(figures.stair(each.snapshot.points, right, color, name))
        marker = {"color": color, "symbol": trace_styles.SYMBOLS[index % trace_styles.HUES], "size": 9}
        traces.append(figures.points_of(each.snapshot.points, name, marker, showlegend=False))
    return figures.params_axis({"data": traces, "layout": figures.layout("adapter parameters", "score", 480)})
