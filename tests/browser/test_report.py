"""A report in a browser: its slider, figures and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autorank.reporting.html_report import write_page
from autorank.training.evaluation import best
from autorank.trials.journal.journal import Journal
from tests.browser.generated_pages import page_with_everything

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Keep, Open

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=["searched", "made"])
def page(request: pytest.FixtureRequest, opened: Open, reported: Path) -> Iterator[Page]:
    """The report of the search, or a generated one, since a short search may have only one point on its front."""
    file = reported if request.param == "searched" else reported.with_name("made.html")
    if request.param == "made":
        write_page(page_with_everything(), file)
    with opened(file.as_uri()) as page:
        page.wait_for_selector("#plot-parallel canvas")
        yield page


@pytest.fixture(scope="module")
def points(page: Page) -> list[dict[str, Any]]:
    """The points of the front, in ascending order of parameters."""
    front_points: list[dict[str, Any]] = json.loads(page.locator("#data").text_content() or "")["points"]
    assert front_points
    return front_points


def pick_point(points: list[dict[str, Any]], max_params: int) -> dict[str, Any]:
    """The best point with at most `max_params` parameters; on a tie the smallest."""
    return max((point for point in points if point["params"] <= max_params), key=lambda point: point["score"])


def ring_position(page: Page) -> tuple[list[float], list[float]]:
    """The coordinates of the ring in the figure."""
    x, y = page.evaluate("(({ x, y }) => [[...x], [...y]])(document.getElementById('plot-front').data.at(-1))")
    return x, y


def assert_shows(page: Page, point: dict[str, Any]) -> None:
    """The page shows this point: its facts, settings and command, and the ring in the figure."""
    assert page.locator("#chosen-command").inner_text() == point["command"]
    facts = page.locator("#chosen").inner_text()
    for name, value in {**point["facts"], **point["settings"]}.items():
        assert f"{name}\n{value}" in facts
    assert ring_position(page) == ([max(point["params"], 1)], [point["score"]])


def test_the_slider_picks_a_point_and_its_command(page: Page, points: list[dict[str, Any]], keep: Keep) -> None:
    assert_shows(page, next(point for point in points if point["knee"]))
    keep(page.locator("#front"), "report")
    slider, box = page.locator("#slider"), page.locator("#most")
    slider.fill("0")
    assert_shows(page, pick_point(points, points[0]["params"]))
    slider.fill("1000")
    assert_shows(page, pick_point(points, points[-1]["params"]))
    stops = [point for point in points if pick_point(points, point["params"]) is point]
    slider.press("Home")  # then by keyboard from point to point
    for point in stops:
        assert_shows(page, point)
        assert box.input_value() == f"{point['params']:,}"
        slider.press("ArrowRight")
    slider.press("End")
    assert_shows(page, stops[-1])
    for previous, point in pairwise(stops):
        box.fill(str(point["params"] - 1))
        box.press("Enter")
        assert_shows(page, previous)
    box.fill(str(max(points[0]["params"] - 1, 0)))
    box.press("Enter")
    assert "The smallest point" in page.locator("#chosen-facts").inner_text() and ring_position(page) == ([], [])


def test_hovering_over_a_point_shows_its_settings(page: Page, points: list[dict[str, Any]]) -> None:
    page.locator("#slider").fill("1000")
    point = pick_point(points, points[-1]["params"])
    page.locator("#plot-front").scroll_into_view_if_needed()
    ring = page.locator("#plot-front .scatterlayer .trace").last.locator(".point").bounding_box()
    assert ring is not None
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    label = page.locator("#plot-front .hoverlayer .hovertext")
    label.wait_for()
    text = label.text_content() or ""
    assert f"trial {point['trial']}," in text and f"score {point['score']:.4f}" in text
    for name, value in point["settings"].items():
        assert f"{'lr' if name == 'learning_rate' else name} {value}" in text
    page.mouse.move(0, 0)


def test_the_axis_is_logarithmic_or_linear(page: Page) -> None:
    kind = "document.getElementById('plot-front')._fullLayout.xaxis.type"
    for name in ("linear", "log"):
        page.locator(f"#axis-{name}").click()
        assert page.evaluate(kind) == name
        assert page.locator(f"#axis-{name}").get_attribute("aria-pressed") == "true"
        assert ring_position(page)[0]  # the ring stays


def test_figures_have_no_upload_button(page: Page) -> None:
    buttons = page.locator(".modebar-btn").evaluate_all("buttons => buttons.map(button => button.dataset.title)")
    assert "Download plot as a PNG" in " ".join(buttons)
    assert not [title for title in buttons if re.search("share|cloud|edit", title, re.IGNORECASE)]


def test_dragging_along_an_axis_selects_lines(page: Page, keep: Keep) -> None:
    """Dragging along the score axis of the parallel coordinates selects lines and marks the range."""
    plot = page.locator("#plot-parallel")
    plot.scroll_into_view_if_needed()
    score = "document.getElementById('plot-parallel').data[0].dimensions.at(-1)"
    full_picture = plot.screenshot()
    axis = plot.locator(".axis-brush .background").last.bounding_box()
    assert axis is not None
    x, top, height = axis["x"] + axis["width"] / 2, axis["y"], axis["height"]
    page.mouse.move(x, top + 0.5 * height)
    page.mouse.down()
    for share in (0.4, 0.2, 0.1):
        page.mouse.move(x, top + share * height)
    page.mouse.up()
    page.wait_for_function(f"{score}.constraintrange")
    low, high = page.evaluate(f"{score}.constraintrange")
    values = page.evaluate(f"[...{score}.values]")
    assert min(values) < low < high
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    assert plot.screenshot() != full_picture
    marked = plot.locator(".axis-brush .highlight").last.get_attribute("stroke-dasharray") or ""
    assert len(re.findall(r"[\d.]+", marked)) > 2  # gap, bar, gap
    keep(page.locator("#settings"), "settings")
    page.mouse.click(x, top + 0.9 * height)
    page.wait_for_function(f"!({score}.constraintrange || []).length")


def test_the_rank_map_of_another_point(page: Page) -> None:
    menu, displayed_ranks = page.locator("#ranks-point"), "document.getElementById('plot-ranks').data[0].z"
    figures = json.loads(page.locator("#data").text_content() or "")["figures"]
    values = menu.locator("option").evaluate_all("options => options.map(option => option.value)")
    for value in [*values[1:2], values[0]]:
        menu.select_option(value, force=len(values) == 1)  # hidden where there is no choice
        assert page.evaluate(displayed_ranks) == figures[f"ranks-{value}"]["data"][0]["z"]
    assert page.locator("#plot-ranks .heatmaplayer image").count() == 1


def test_the_table_shows_the_trials_of_the_journal(opened: Open, workspace: Path, reported: Path) -> None:
    with opened(reported.as_uri()) as page:
        cells = page.locator("#trials-table tbody tr").evaluate_all(
            "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
        )
        trials = Journal.open(workspace / "runs" / "first").trials()
        assert [int(row[0]) for row in cells] == [trial.number for trial in trials]
        for row, trial in zip(cells, trials, strict=True):
            top = best(trial.evaluations)
            assert row[4] == (f"{top.score:.4f}" if top else "") and row[-1] == (trial.reason or "")
        page.locator("#trials-table th button", has_text="score").click()
        scores = page.locator("#trials-table tbody tr td:nth-child(5)").all_inner_texts()
        assert all(float(a) <= float(b) for a, b in pairwise(filter(None, scores)))
