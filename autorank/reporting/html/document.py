"""One HTML file that needs nothing else: text, styles, script, Plotly and data are all in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from autorank.reporting.tables import plain

LONG = 30  # characters: such a cell of a table is kept wide enough to read
Figure = dict[str, Any]  # `data` and `layout`, as Plotly reads them; colours may be var(--NAME) of page.css


def document(title: str, body: str, figures: Mapping[str, Figure], points: Sequence[Mapping[str, Any]] = ()) -> str:
    """The file's text.

    Args:
        title: plain text.
        body: HTML, with everything that a user gave escaped. An element with `data-figure` shows that figure.
        figures: name -> figure.
        points: what the slider picks from.
    """
    from plotly.offline import get_plotlyjs

    parts = files("autorank.reporting.html")
    texts = {name: parts.joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    data = json.dumps(plain({"figures": figures, "points": points}), ensure_ascii=False, allow_nan=False)
    for letter in "<>&\u2028\u2029":  # nothing in a string may end the script element
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    inserted = {
        "title": escape(title), "css": texts["css"], "body": body, "data": data, "plotly": get_plotlyjs(),
        "js": texts["js"],
    }  # fmt: skip
    head, *rest = texts["html"].split("{{")  # not replaced one after another: what is inserted may hold braces
    pieces = [piece.split("}}", 1) for piece in rest]
    return head + "".join(inserted[name.strip()] + after for name, after in pieces)


def plot(name: str, label: str, figure: str | None = None) -> str:
    """The place of a figure: by default the one of the same name. `label`: what a screen reader says of it."""
    attributes = {"id": f"plot-{name}", "data-figure": figure or name, "role": "img", "aria-label": label}
    written = " ".join(f'{key}="{escape(value)}"' for key, value in attributes.items())
    return f'<div class="plot" {written}></div>'


def choice(name: str, label: str, options: Mapping[str, str], plots: Mapping[str, str]) -> str:
    """A menu that changes figures; with one option it is hidden.

    Args:
        options: value -> text.
        plots: name of a `plot` -> what its figures' names start with; the value comes after.
    """
    entries = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items())
    return (
        f'<label class="choice"{" hidden" if len(options) < 2 else ""}>{escape(label)} '
        f'<select id="{escape(name)}" data-plots="{escape(json.dumps(dict(plots)))}">{entries}</select></label>'
    )


def table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that sorts by each column. A cell is a text, or a (text, number to sort by).

    `columns` that end in `>` are right-aligned.
    """
    right = [column.endswith(">") for column in columns]
    heads = "".join(
        f'<th scope="col"{_right(r)}><button type="button">{escape(column.removesuffix(">"))}</button></th>'
        for column, r in zip(columns, right, strict=True)
    )
    lines = "".join("<tr>" + "".join(map(_cell, row, right)) + "</tr>\n" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table id="{escape(name)}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>\n{lines}</tbody></table></div>"
    )


def _cell(cell: Any, right: bool) -> str:
    text, key = cell if isinstance(cell, tuple) else (cell, None)
    sorts = "" if key is None else f' data-key="{key}"'
    kind = ' class="long"' if len(str(text)) > LONG else _right(right)
    return f"<td{kind}{sorts}>{escape(str(text))}</td>"


def _right(right: bool) -> str:
    return ' class="number"' if right else ""
