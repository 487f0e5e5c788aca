"""Reads a page as a browser does, and checks figures with Plotly."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from autorank.reporting.html.document import Figure

VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """A parsed page: elements as (tag, attributes), texts by the innermost element's id, tables as rows of cells."""

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
        if open_ids := [name for _, name in self._open if name]:
            self.texts[open_ids[-1]] = self.texts.get(open_ids[-1], "") + data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self._rows[-1][-1] += data


def traces(figure: Figure) -> dict[str, Figure]:
    """The traces of a figure by name."""
    return {trace["name"]: trace for trace in figure["data"]}


def assert_valid(figure: Figure) -> None:
    """Checks a figure with Plotly's validators.

    Raises:
        ValueError: The figure is invalid.
    """
    import plotly.graph_objects as go

    go.Figure(figure)
