"""One file with everything in it, that no text of a user breaks out of."""

from __future__ import annotations

import pytest

from autorank.reporting.html.document import choice, document, plot, table
from tests.reporting.html.read import Page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'{{data}}\u2028"


def test_nothing_is_fetched():
    page = Page(document("a page", "<p id='p'>text</p>", {}))
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "base") and not {"src", "href", "action"} & set(attributes)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert page.texts["p"] == "text" and "plotly.js v" in document("", "", {})


def test_data_come_back_as_they_were():
    figures = {"front": {"data": [{"text": [HOSTILE], "y": [0.1, None]}], "layout": {}}}
    page = Page(document(HOSTILE, "", figures, [{"command": HOSTILE, "params": 3}]))
    assert page.data == {"figures": figures, "points": [{"command": HOSTILE, "params": 3}]}
    assert sum(tag == "script" for tag, _ in page.elements) == 3 and all(tag != "img" for tag, _ in page.elements)


def test_parts_escape_what_they_are_given():
    parts = [
        plot(HOSTILE, HOSTILE, HOSTILE),
        choice(HOSTILE, HOSTILE, {HOSTILE: HOSTILE, "2": "two"}, {"a": HOSTILE}),
        table(HOSTILE, HOSTILE, [HOSTILE, "n>"], [[HOSTILE, (HOSTILE, 3)]]),
    ]
    page = Page("".join(parts))
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.tables[HOSTILE] == [[HOSTILE, "n"], [HOSTILE, HOSTILE]]
    assert [a["value"] for tag, a in page.elements if tag == "option"] == [HOSTILE, "2"]


@pytest.mark.parametrize(("options", "hidden"), [({"a": "A"}, True), ({"a": "A", "b": "B"}, False)])
def test_a_menu_with_one_option_is_hidden(options, hidden):
    (label,) = (a for tag, a in Page(choice("menu", "Menu", options, {})).elements if tag == "label")
    assert ("hidden" in label) == hidden
