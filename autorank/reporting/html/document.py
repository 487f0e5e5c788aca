"""Renders a page as one HTML file that needs nothing else: text, styles, script, Plotly and data are all in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from autorank.reporting.front_csv_json import json_value

Figure = dict[str, Any]  # `data` and `layout`, as Plotly reads them; colors may be var(--NAME) of page.css


class Column(NamedTuple):
    """A column of a table; `number`: right-aligned."""

    title: str
    number: bool = False


class Cell(NamedTuple):
    """A cell of a table; `key`: what the column is sorted by, if not the text."""

    text: str
    key: float | str | None = None


class HtmlTable(NamedTuple):
    """A table that can be sorted by each column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def render_page(
    template: str, title: str, figures: Mapping[str, Figure], points: Sequence[Mapping[str, Any]] = (), **values: Any
) -> str:
    """Render a page.

    Args:
        template: File name in `templates/`, without the ending `.html.j2`; it extends `page.html.j2`.
        title: Plain text.
        figures: Name -> figure; an element with the attribute `data-figure` shows the figure of that name.
        points: The points between which the slider selects.
        **values: The template's variables; plain text, which is escaped.

    Returns:
        The HTML file's text.
    """
    from plotly.offline import get_plotlyjs

    resources = files("autorank.reporting.html")
    texts = {name: resources.joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    data = json_value({"figures": figures, "points": points})
    page = environment().get_template(f"{template}.html.j2")
    return page.render(title=title, figures=figures, data=data, plotly=get_plotlyjs(), **texts, **values)


@cache
def environment() -> Environment:
    """The templates of pages. Values are escaped; undefined variables are errors."""
    environment = Environment(
        loader=PackageLoader("autorank.reporting.html"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False}
    return environment
