"""A page as a browser reads it, and a figure as Plotly does."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from autorank.reporting.html.document import Figure

VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Elements as (tag, attributes), texts by id of the innermost element that has one, tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    @property
    def data(self) -> Any:
        return json.loads(self.texts["data"])

    def ids(self) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get("id"))]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id")))
        if tag == "table":
            self._rows = self.tables[str(attributes["id"])] = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if named := [name for _, name in self._open if name]:
            self.texts[named[-1]] = self.texts.get(named[-1], "") + data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self._rows[-1][-1] += data


def traces(figure: Figure) -> dict[str, Figure]:
    """Name -> what is drawn."""
    return {trace["name"]: trace for trace in figure["data"]}


def valid(figure: Figure) -> None:
    """Plotly's own classes read it.

    Raises:
        ValueError: They do not.
    """
    import plotly.graph_objects as go

    go.Figure(figure)
