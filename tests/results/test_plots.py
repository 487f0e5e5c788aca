"""Figures hold what they should; how they look is for eyes."""

from __future__ import annotations

import io

import pytest

from autorank.results.front import front
from autorank.results.plots import front_figure, hypervolume_figure
from tests.results.made_trials import trial

REFERENCE = (10_000.0, 0.5)
SEARCHES = {
    "none": [],
    "one": [trial(0, (100, 0.7))],
    "no parameters": [trial(0, (0, 0.5), (100, 0.7))],
    "many": [trial(i, *((50 * 2**i, 0.5 + 0.05 * i + 0.01 * j) for j in range(3))) for i in range(7)],
}


@pytest.mark.parametrize("trials", SEARCHES.values(), ids=SEARCHES)
def test_every_figure_can_be_drawn(trials):
    for figure in (
        front_figure(trials, front(trials), "lora on demo", REFERENCE),
        hypervolume_figure(trials, REFERENCE),
    ):
        png = io.BytesIO()
        figure.savefig(png)
        assert png.getvalue().startswith(b"\x89PNG")


def test_front_figure_shows_all_evaluations_the_front_and_the_knee():
    trials = [trial(0, (100, 0.5), (100, 0.6)), trial(1, (1000, 0.8)), trial(2, (10_000, 0.85))]
    (axes,) = front_figure(trials, front(trials), "lora on demo", REFERENCE).axes
    everything, points, knee = (collection.get_offsets().tolist() for collection in axes.collections)
    assert everything == [[100, 0.5], [100, 0.6], [1000, 0.8], [10_000, 0.85]]
    assert points == [[100, 0.6], [1000, 0.8], [10_000, 0.85]] and knee == [[1000, 0.8]]
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "lora on demo"
    assert [note.get_text() for note in axes.texts] == ["knee: 1k, 0.800"]


def test_hypervolume_figure_shows_a_point_a_finished_trial():
    trials = [trial(0, (5000, 0.6)), trial(1, (5000, 0.75)), trial(2, (1, 0.9), state="running")]
    (axes,) = hypervolume_figure(trials, REFERENCE).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == pytest.approx([0.5 * 0.1 / 0.5, 0.5 * 0.25 / 0.5])
