"""A page is one self-contained file, and users' texts are escaped."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from autorank.reporting.html.document import Cell, Column, HtmlTable, environment, render_page
from tests.reporting.html.page_reader import Page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'{{data}}\u2028"
TABLE = HtmlTable([Column(HOSTILE), Column("n", number=True)], [[Cell(HOSTILE), Cell(HOSTILE, 3)]])


def comparison_page(title, figures=None, points=(), notes=()):
    return render_page("comparison", title, figures or {}, points, rows=TABLE, notes=notes)


def macro(name, *arguments):
    return str(getattr(environment().get_template("macros.html.j2").module, name)(*arguments))


def test_report_page_loads_nothing_external():
    text = comparison_page("a page", notes=["a note"])
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "base") and not {"src", "href", "action"} & set(attributes)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert page.texts["title"] == "a page" and "a note" in page.texts["compared"] and "plotly.js v" in text


def test_embedded_data_are_read_back_unchanged():
    figures = {"front": {"data": [{"text": [HOSTILE], "y": [0.1, None]}], "layout": {}}}
    page = Page(comparison_page(HOSTILE, figures, [{"command": HOSTILE, "params": 3}], [HOSTILE]))
    assert page.data == {"figures": figures, "points": [{"command": HOSTILE, "params": 3}]}
    assert sum(tag == "script" for tag, _ in page.elements) == 3 and all(tag != "img" for tag, _ in page.elements)
    assert page.texts["title"] == HOSTILE


def test_macros_escape_their_arguments():
    parts = [
        macro("plot", HOSTILE, HOSTILE, HOSTILE),
        macro("menu", HOSTILE, HOSTILE, {HOSTILE: HOSTILE, "2": "two"}, {"a": HOSTILE}),
        macro("table", HOSTILE, HOSTILE, TABLE),
    ]
    page = Page("".join(parts))
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.tables[HOSTILE] == [[HOSTILE, "n"], [HOSTILE, HOSTILE]]
    assert [a["value"] for tag, a in page.elements if tag == "option"] == [HOSTILE, "2"]


@pytest.mark.parametrize(("options", "hidden"), [({"a": "A"}, True), ({"a": "A", "b": "B"}, False)])
def test_a_menu_with_one_option_is_hidden(options, hidden):
    (label,) = (a for tag, a in Page(macro("menu", "menu", "Menu", options, {})).elements if tag == "label")
    assert ("hidden" in label) == hidden


def test_a_missing_variable_is_an_error():
    with pytest.raises(UndefinedError, match="notes"):
        render_page("comparison", "a page", {}, rows=TABLE)
