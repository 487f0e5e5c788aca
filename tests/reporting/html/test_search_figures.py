"""Plotly figures hold the trials' values and pass Plotly's validators."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from autorank.reporting.html import search_figures
from autorank.spec import ObjectivesSpec
from autorank.trials.front import hypervolume
from tests.reporting.html.page_reader import assert_valid, traces
from tests.trials.trial_factories import sliced, trial
from tests.trials.trial_factories import snapshot as made_snapshot

REFERENCE = (1000.0, 0.0)
snapshot = partial(made_snapshot, reference=REFERENCE)
TRIALS = [
    trial(0, (100, 0.5), (100, 0.6)),
    trial(1, (400, 0.8), method="increlora"),
    trial(2, (200, 0.7), baseline=True, method="lora"),
    trial(3, (300, 0.4), state="pruned", reason="behind <its> peers"),
    trial(4, (500, math.nan), state="failed", reason="diverged"),
    trial(5, (50, 0.3), state="running"),
]


def test_the_front_and_the_front_of_the_baseline():
    figure = search_figures.front(snapshot(TRIALS))
    by_name = traces(figure)
    assert list(zip(by_name["evaluations"]["x"], by_name["evaluations"]["y"], strict=True)) == [
        (100, 0.5), (100, 0.6), (400, 0.8), (200, 0.7), (300, 0.4), (50, 0.3),
    ]  # fmt: skip
    assert by_name["front"]["x"] == [50, 100, 400, 1000] and by_name["front"]["y"] == [0.3, 0.6, 0.8, 0.8]
    assert by_name["front of plain LoRA"]["x"] == [200, 1000]
    assert by_name["lora-drop"]["x"] == [50, 100] and by_name["increlora"]["x"] == [400]
    assert (
        by_name["knee"]["x"] == by_name["selected below"]["x"] == [100]
        and figure["data"][-1]["name"] == "selected below"
    )
    assert by_name["increlora"]["text"] == [
        "increlora, trial 1, step 10<br><b>400 parameters, score 0.8000</b><br>lr 0.002<br>rank 8"
    ]
    assert_valid(figure)


def test_a_line_joins_the_sizes_of_an_evaluation_on_the_front():
    trials = [
        trial(0, sliced(10, 900, 0.8, (100, 0.7), (300, 0.65))),
        trial(1, sliced(10, 800, 0.5, (90, 0.4))),
        trial(2, sliced(10, 950, 0.3, (200, 0.2)), baseline=True, method="lora"),
    ]
    figure = search_figures.front(snapshot(trials))
    by_name = traces(figure)
    assert len(by_name["evaluations and slices"]["x"]) == 7
    lines = by_name["sizes of one training"]
    assert lines["x"] == [100, 300, 900, None, 90, 800, None, 200, 950, None]
    assert lines["y"] == [0.7, 0.65, 0.8, None, 0.4, 0.5, None, 0.2, 0.3, None]
    assert by_name["lora-drop"]["text"][1].startswith(
        "lora-drop, trial 0, step 10<br><b>100 parameters, score 0.7000</b>, cut from 900<br>"
    )
    assert_valid(figure)
    dominated = search_figures.front(snapshot([trials[0], trial(1, sliced(10, 901, 0.5, (101, 0.4)))]))
    assert traces(dominated)["sizes of one training"]["x"] == [100, 300, 900, None]


def test_a_learning_curve_marks_an_evaluation_with_points_of_the_front_once():
    search_snapshot = snapshot([trial(0, (100, 0.2), sliced(20, 900, 0.8, (100, 0.7)))])
    figure = search_figures.curves(search_snapshot)
    marks = traces(figure)["on the front"]
    assert (marks["x"], marks["y"]) == ([20], [0.8])
    sizes = "<b>100 parameters, score 0.7000</b>, cut from 900<br><b>900 parameters, score 0.8000</b>"
    assert marks["text"] == [f"lora-drop, trial 0, step 20<br>{sizes}<br>lr 0.001<br>rank 8"]
    assert_valid(figure)


def test_error_bars_where_points_were_confirmed():
    search_snapshot = snapshot(TRIALS[:3])
    confirmed = {(1, 10, 400, 1): {"score": 0.7}, (1, 10, 400, 2): {"score": 0.76}, (2, 10, 200, 1): {"score": 0.66}}
    figure = search_figures.front(
        type(search_snapshot)(search_snapshot.trials, search_snapshot.points, search_snapshot.baseline, confirmed),
    )
    bars = traces(figure)["new seeds: mean ± sd"]
    assert bars["x"] == [400] and bars["y"] == pytest.approx([0.73])
    assert bars["error_y"]["array"] == pytest.approx([0.06 / math.sqrt(2)])
    baseline_bars = traces(figure)["new seeds: mean ± sd (plain LoRA)"]
    assert baseline_bars["y"] == [0.66] and baseline_bars["error_y"]["array"] == [0.0]
    assert_valid(figure)


def test_growth_over_time_and_over_steps():
    figures = search_figures.growth(snapshot(TRIALS))
    time, steps = traces(figures["growth-time"]), traces(figures["growth-steps"])
    assert time["front"]["x"] == [1.0, 160 / 60, 360 / 60, 460 / 60]  # minutes; every trial took one
    assert steps["front"]["x"] == [20, 30, 40, 50] and steps["front of plain LoRA"]["x"] == [10]
    assert steps["front"]["y"] == pytest.approx([0.54, 0.54 + 0.6 * 0.2, 0.66, 0.66])
    assert steps["front of plain LoRA"]["y"] == [hypervolume(snapshot(TRIALS).baseline, REFERENCE)]
    for figure in figures.values():
        assert_valid(figure)
    assert search_figures.growth(snapshot(TRIALS[5:])) == {}


def test_growth_after_the_clock_was_set_back():
    set_back = replace(TRIALS[0], ended=TRIALS[0].started - 3000)
    figure = search_figures.growth(snapshot([set_back]))["growth-time"]
    assert figure["layout"]["xaxis"]["title"]["text"].startswith("seconds")


def test_curves_mark_stopped_and_failed_trials():
    figure = search_figures.curves(snapshot(TRIALS))
    by_name = traces(figure)
    assert by_name["lora-drop"]["x"][:3] == [10, 20, None] and by_name["lora-drop"]["y"][:3] == [0.5, 0.6, None]
    assert by_name["lora-drop"]["text"][:3] == ["lora-drop, trial 0"] * 2 + [None]
    assert by_name["lora (baseline)"]["line"]["dash"] == "dash"
    assert (by_name["stopped"]["x"], by_name["stopped"]["y"]) == ([10], [0.4])
    assert by_name["stopped"]["text"] == ["trial 3 stopped<br>behind &lt;its&gt; peers"]
    assert by_name["failed"]["text"] == ["trial 4 failed<br>diverged"]
    assert by_name["on the front"]["x"] == [10, 20, 10]
    assert_valid(figure)
    assert search_figures.curves(snapshot([trial(0, state="failed")])) is None


def test_hover_text_has_the_third_objective():
    search_snapshot = snapshot([trial(0, (100, 0.5))], ObjectivesSpec(third_objective="seconds"))
    figure = search_figures.front(search_snapshot)
    assert "<br>time 10s<br>" in traces(figure)["lora-drop"]["text"][0]


@pytest.mark.parametrize(
    "trials",
    [[], [trial(0, (0, 0.5))], [trial(0, (0, 0.5), baseline=True)]],
    ids=["none", "no parameters", "baseline alone"],
)
def test_odd_searches_can_be_drawn(trials):
    assert_valid(search_figures.front(snapshot(trials)))
    for figure in search_figures.growth(snapshot(trials)).values():
        assert_valid(figure)
