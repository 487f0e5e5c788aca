"""Pages fit their window and follow its theme."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autorank.reporting.html_report import write_page
from tests.browser.generated_pages import no_points, one_trial, page_with_everything

if TYPE_CHECKING:
    from tests.browser.conftest import Keep, Open

pytestmark = pytest.mark.long
THEMES = (("light", 390), ("dark", 1280))
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("page_of", [page_with_everything, one_trial, no_points])
def test_pages_fit_and_are_in_their_theme(opened: Open, tmp_path: Path, page_of: Callable[[], str]) -> None:
    write_page(page_of(), tmp_path / "page.html")
    with opened((tmp_path / "page.html").as_uri()) as page:
        page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.childNodes.length)")
        for theme, width in THEMES:
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(f"document.documentElement.scrollWidth === {width}")  # nothing to scroll to the side
            assert (max(map(int, re.findall(r"\d+", page.evaluate(BACKGROUND)))) < 60) == (theme == "dark")
        page.locator("#theme").click()
        assert min(map(int, re.findall(r"\d+", page.evaluate(BACKGROUND)))) > 200
        table_text = page.locator("#trials-table").inner_text()
        if page_of is page_with_everything:
            assert "not among the best third at step 100" in table_text and "out of memory: 3 GB asked" in table_text
            assert "other methods" in (page.locator("#plot-curves .legend").text_content() or "")
            assert "Time\n" in page.locator("#chosen-facts").inner_text()
        if page_of is no_points:
            assert "out of memory" in table_text and page.locator("#slider").count() == 0


def test_the_report_on_a_phone(opened: Open, reported: Path, keep: Keep) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    with opened(reported.as_uri(), **phone) as page:
        page.wait_for_selector("#plot-parallel canvas")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        box = page.locator("#plot-front .cartesianlayer .bg, #plot-front .draglayer .nsewdrag").last.bounding_box()
        assert box is not None and box["height"] > 200 and box["width"] > 250  # the legend leaves room
        page.locator("#front").scroll_into_view_if_needed()
        keep(page, "report-phone")
