"""Figures hold the trials' values; their look is not tested."""

from __future__ import annotations

import io
from functools import partial

import pytest

from autorank.reporting.plots import front_figure, fronts_figure, hypervolume_figure
from autorank.reporting.rank_plots import rank_map_figure
from autorank.spec import ObjectivesSpec
from autorank.trials.history import History
from tests.trials.trial_factories import evaluation, sliced, trial
from tests.trials.trial_factories import snapshot as made_snapshot

REFERENCE = (10_000.0, 0.5)
snapshot = partial(made_snapshot, reference=REFERENCE)
SEARCHES = {
    "none": [],
    "one": [trial(0, (100, 0.7))],
    "no parameters": [trial(0, (0, 0.5), (100, 0.7))],
    "many": [trial(i, *((50 * 2**i, 0.5 + 0.05 * i + 0.01 * j) for j in range(3))) for i in range(7)],
    "baseline": [trial(0, (100, 0.7)), trial(1, (200, 0.6), (0, 0.5), baseline=True)],
    "baseline alone": [trial(0, (200, 0.6), baseline=True)],
    "slices": [trial(0, sliced(10, 900, 0.7, (0, 0.5), (100, 0.6)))],
}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("trials", SEARCHES.values(), ids=SEARCHES)
def test_every_figure_can_be_drawn(trials):
    for figure in (
        front_figure(snapshot(trials), "lora on demo"),
        hypervolume_figure(History(REFERENCE).update(trials), REFERENCE),
    ):
        png = io.BytesIO()
        figure.savefig(png)
        assert png.getvalue().startswith(b"\x89PNG")


def test_dollars_in_names_are_no_formulas():
    name, points = "price_$_per_$\\frac", snapshot(SEARCHES["one"]).points
    for figure in (
        front_figure(snapshot(SEARCHES["one"]), name),
        fronts_figure({name: points, "$x^$": points}),
        rank_map_figure({"h.0.a$b$c_": 2, "h.1.a$b$c_": 1}, name),
    ):
        figure.draw_without_rendering()


def test_front_figure_shows_all_evaluations_the_front_and_the_knee():
    trials = [trial(0, (100, 0.5), (100, 0.6)), trial(1, (1000, 0.8)), trial(2, (10_000, 0.85))]
    (axes,) = front_figure(snapshot(trials), "lora on demo").axes
    evaluations, points, knee = (collection.get_offsets().tolist() for collection in axes.collections)
    assert evaluations == [[100, 0.5], [100, 0.6], [1000, 0.8], [10_000, 0.85]]
    assert points == [[100, 0.6], [1000, 0.8], [10_000, 0.85]] and knee == [[1000, 0.8]]
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "lora on demo"
    assert [note.get_text() for note in axes.texts] == ["knee: 1k, 0.800"]
    assert legend(axes) == ["evaluations", "front (3)"]
    (stair,) = axes.lines
    assert stair.get_linestyle() == "-" and stair.get_drawstyle() == "steps-post"
    assert stair.get_xydata().tolist() == [[100, 0.6], [1000, 0.8], [10_000, 0.85], [10_000, 0.85]]


def test_a_thin_line_joins_the_sizes_of_an_evaluation_on_the_front():
    trials = [trial(0, sliced(10, 5000, 0.8, (100, 0.6), (1000, 0.55))), trial(1, sliced(10, 6000, 0.5, (200, 0.4)))]
    (axes,) = front_figure(snapshot(trials), "lora on demo").axes
    sizes, stair = axes.lines
    assert sizes.get_xydata().tolist() == [[100, 0.6], [1000, 0.55], [5000, 0.8]]
    assert sizes.get_linewidth() < stair.get_linewidth() and sizes.get_drawstyle() == "default"
    assert legend(axes) == ["evaluations and slices", "front (2)"]


def test_the_baseline_s_front_is_a_dashed_stair_beside_it():
    trials = [
        trial(0, (100, 0.5), (1000, 0.8)),
        trial(1, (50, 0.4), (500, 0.7), (800, 0.6), baseline=True, method="lora"),
    ]
    (axes,) = front_figure(snapshot(trials), "lora on demo").axes
    baseline, front = axes.lines
    assert (baseline.get_linestyle(), front.get_linestyle()) == ("--", "-")
    assert baseline.get_xydata().tolist() == [[50, 0.4], [500, 0.7], [10_000, 0.7]]
    assert front.get_xydata().tolist() == [[100, 0.5], [1000, 0.8], [10_000, 0.8]]
    assert {line.get_drawstyle() for line in axes.lines} == {"steps-post"}
    assert baseline.get_color() != front.get_color()
    evaluations, baseline_points, front_points, knee = (
        collection.get_offsets().tolist() for collection in axes.collections
    )
    assert len(evaluations) == 5 and baseline_points == [[50, 0.4], [500, 0.7]]
    assert front_points == [[100, 0.5], [1000, 0.8]] and knee == [[1000, 0.8]]  # the front alone
    assert legend(axes) == ["evaluations", "plain LoRA (2)", "front (2)"]


def test_a_stair_never_goes_down_with_a_third_objective():
    evaluations = [
        evaluation(1, 100, 0.7, seconds=9),
        evaluation(2, 200, 0.5, seconds=1),
        evaluation(3, 300, 0.8, seconds=9),
    ]
    (axes,) = front_figure(snapshot([trial(0, *evaluations)], ObjectivesSpec(third_objective="seconds")), "lora").axes
    (stair,) = axes.lines
    assert stair.get_ydata().tolist() == [0.7, 0.7, 0.8, 0.8]
    assert axes.collections[1].get_offsets().tolist() == [[100, 0.7], [200, 0.5], [300, 0.8]]


def test_points_beyond_a_limit_are_grey():
    (axes,) = front_figure(snapshot([trial(0, (100, 0.7), (300, 0.9))], ObjectivesSpec(max_params=200)), "lora").axes
    evaluations, points, *_ = (collection.get_offsets().tolist() for collection in axes.collections)
    assert evaluations == [[100, 0.7], [300, 0.9]] and points == [[100, 0.7]]


def test_hypervolume_figure_shows_one_point_per_finished_trial():
    trials = [trial(0, (5000, 0.6)), trial(1, (5000, 0.75)), trial(2, (1, 0.9), state="running")]
    (axes,) = hypervolume_figure(History(REFERENCE).update(trials), REFERENCE).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == pytest.approx([0.5 * 0.1 / 0.5, 0.5 * 0.25 / 0.5])
