"""Plotly figures hold what the trials say; Plotly's own validators read them."""

from __future__ import annotations

import math

import pytest

from autorank.reporting.html import search_figures
from autorank.spec import ObjectivesSpec
from autorank.trials.front import hypervolume
from tests.reporting.html.read import traces, valid
from tests.trials.made_trials import sliced, snapshot, trial

REFERENCE = (1000.0, 0.0)
TRIALS = [
    trial(0, (100, 0.5), (100, 0.6)),
    trial(1, (400, 0.8), method="increlora"),
    trial(2, (200, 0.7), baseline=True, method="lora"),
    trial(3, (300, 0.4), state="pruned", reason="behind <its> peers"),
    trial(4, (500, math.nan), state="failed", reason="diverged"),
    trial(5, (50, 0.3), state="running"),
]


def test_the_front_beside_the_baseline_s():
    figure = search_figures.front(snapshot(TRIALS), REFERENCE)
    there = traces(figure)
    assert list(zip(there["evaluations"]["x"], there["evaluations"]["y"], strict=True)) == [
        (100, 0.5), (100, 0.6), (400, 0.8), (200, 0.7), (300, 0.4), (50, 0.3),
    ]  # fmt: skip
    assert there["front"]["x"] == [50, 100, 400, 1000] and there["front"]["y"] == [0.3, 0.6, 0.8, 0.8]
    assert there["front of plain LoRA"]["x"] == [200, 1000]
    assert there["lora-drop"]["x"] == [50, 100] and there["increlora"]["x"] == [400]
    assert (
        there["knee"]["x"] == there["selected below"]["x"] == [100] and figure["data"][-1]["name"] == "selected below"
    )
    assert there["increlora"]["text"] == [
        "increlora, trial 1, step 10<br><b>400 parameters, score 0.8000</b><br>lr 0.002<br>rank 8"
    ]
    valid(figure)


def test_a_line_joins_the_sizes_of_an_evaluation_on_the_front():
    trials = [
        trial(0, sliced(10, 900, 0.8, (100, 0.7), (300, 0.65))),
        trial(1, sliced(10, 800, 0.5, (90, 0.4))),
        trial(2, sliced(10, 950, 0.3, (200, 0.2)), baseline=True, method="lora"),
    ]
    figure = search_figures.front(snapshot(trials), REFERENCE)
    there = traces(figure)
    assert len(there["evaluations and slices"]["x"]) == 7
    lines = there["sizes of one training"]
    assert lines["x"] == [100, 300, 900, None, 90, 800, None, 200, 950, None]
    assert lines["y"] == [0.7, 0.65, 0.8, None, 0.4, 0.5, None, 0.2, 0.3, None]
    assert there["lora-drop"]["text"][1].startswith(
        "lora-drop, trial 0, step 10<br><b>100 parameters, score 0.7000</b>, cut from 900<br>"
    )
    valid(figure)
    beaten = search_figures.front(snapshot([trials[0], trial(1, sliced(10, 901, 0.5, (101, 0.4)))]), REFERENCE)
    assert traces(beaten)["sizes of one training"]["x"] == [100, 300, 900, None]


def test_a_learning_curve_marks_an_evaluation_with_points_of_the_front_once():
    there = snapshot([trial(0, (100, 0.2), sliced(20, 900, 0.8, (100, 0.7)))])
    figure = search_figures.curves(there)
    marks = traces(figure)["on the front"]
    assert (marks["x"], marks["y"]) == ([20], [0.8])
    sizes = "<b>100 parameters, score 0.7000</b>, cut from 900<br><b>900 parameters, score 0.8000</b>"
    assert marks["text"] == [f"lora-drop, trial 0, step 20<br>{sizes}<br>lr 0.001<br>rank 8"]
    valid(figure)


def test_error_bars_where_points_were_confirmed():
    there = snapshot(TRIALS[:3])
    confirmed = {(1, 10, 400, 1): {"score": 0.7}, (1, 10, 400, 2): {"score": 0.76}, (2, 10, 200, 1): {"score": 0.66}}
    figure = search_figures.front(type(there)(there.trials, there.points, there.baseline, confirmed), REFERENCE)
    bars = traces(figure)["new seeds: mean ± sd"]
    assert bars["x"] == [400] and bars["y"] == pytest.approx([0.73])
    assert bars["error_y"]["array"] == pytest.approx([0.06 / math.sqrt(2)])
    alone = traces(figure)["new seeds: mean ± sd (plain LoRA)"]
    assert alone["y"] == [0.66] and alone["error_y"]["array"] == [0.0]
    valid(figure)


def test_growth_over_time_and_over_steps():
    grown = search_figures.growth(snapshot(TRIALS), REFERENCE, ObjectivesSpec())
    time, steps = traces(grown["growth-time"]), traces(grown["growth-steps"])
    assert time["front"]["x"] == [1.0, 160 / 60, 360 / 60, 460 / 60]  # minutes; every trial took one
    assert steps["front"]["x"] == [20, 30, 40, 50] and steps["front of plain LoRA"]["x"] == [10]
    assert steps["front"]["y"] == pytest.approx([0.54, 0.54 + 0.6 * 0.2, 0.66, 0.66])
    assert steps["front of plain LoRA"]["y"] == [hypervolume(snapshot(TRIALS).baseline, REFERENCE)]
    for figure in grown.values():
        valid(figure)
    assert search_figures.growth(snapshot(TRIALS[5:]), REFERENCE, ObjectivesSpec()) == {}


def test_curves_mark_what_was_stopped_and_what_failed():
    figure = search_figures.curves(snapshot(TRIALS))
    there = traces(figure)
    assert there["lora-drop"]["x"][:3] == [10, 20, None] and there["lora-drop"]["y"][:3] == [0.5, 0.6, None]
    assert there["lora-drop"]["text"][:3] == ["lora-drop, trial 0"] * 2 + [None]
    assert there["lora (baseline)"]["line"]["dash"] == "dash"
    assert (there["stopped"]["x"], there["stopped"]["y"]) == ([10], [0.4])
    assert there["stopped"]["text"] == ["trial 3 stopped<br>behind &lt;its&gt; peers"]
    assert there["failed"]["text"] == ["trial 4 failed<br>diverged"]
    assert there["on the front"]["x"] == [10, 20, 10]
    valid(figure)
    assert search_figures.curves(snapshot([trial(0, state="failed")])) is None


def test_hover_text_has_the_third_objective():
    there = snapshot([trial(0, (100, 0.5))], ObjectivesSpec(third="seconds"))
    figure = search_figures.front(there, REFERENCE)
    assert "<br>time 10s<br>" in traces(figure)["lora-drop"]["text"][0]


@pytest.mark.parametrize(
    "trials",
    [[], [trial(0, (0, 0.5))], [trial(0, (0, 0.5), baseline=True)]],
    ids=["none", "no parameters", "baseline alone"],
)
def test_odd_searches_can_be_drawn(trials):
    valid(search_figures.front(snapshot(trials), REFERENCE))
    for figure in search_figures.growth(snapshot(trials), REFERENCE, ObjectivesSpec()).values():
        valid(figure)
