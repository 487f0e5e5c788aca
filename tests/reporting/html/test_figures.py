"""Plotly figures hold what the trials say; Plotly's own validators read them."""

from __future__ import annotations

import math

import pytest

from autorank.reporting.html import search_figures
from autorank.spec import ObjectivesSpec
from autorank.trials.front import hypervolume
from tests.reporting.html.read import traces, valid
from tests.trials.made_trials import snapshot, trial

REFERENCE = (1000.0, 0.0)
TRIALS = [
    trial(0, (100, 0.5), (100, 0.6)),
    trial(1, (400, 0.8), method="increlora"),
    trial(2, (200, 0.7), control=True, method="lora"),
    trial(3, (300, 0.4), state="pruned", reason="behind <its> peers"),
    trial(4, (500, math.nan), state="failed", reason="diverged"),
    trial(5, (50, 0.3), state="running"),
]


def test_the_front_beside_the_control_s():
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


def test_error_bars_where_points_were_confirmed():
    there = snapshot(TRIALS[:3])
    confirmed = {(1, 10, 400, 1): {"score": 0.7}, (1, 10, 400, 2): {"score": 0.76}, (2, 10, 200, 1): {"score": 0.66}}
    figure = search_figures.front(type(there)(there.trials, there.points, there.control, confirmed), REFERENCE)
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
    assert steps["front of plain LoRA"]["y"] == [hypervolume(snapshot(TRIALS).control, REFERENCE)]
    for figure in grown.values():
        valid(figure)
    assert search_figures.growth(snapshot(TRIALS[5:]), REFERENCE, ObjectivesSpec()) == {}


def test_curves_mark_what_was_stopped_and_what_failed():
    figure = search_figures.curves(snapshot(TRIALS))
    there = traces(figure)
    assert there["lora-drop"]["x"][:3] == [10, 20, None] and there["lora-drop"]["y"][:3] == [0.5, 0.6, None]
    assert there["lora-drop"]["text"][:3] == ["lora-drop, trial 0"] * 2 + [None]
    assert there["lora (control)"]["line"]["dash"] == "dash"
    assert (there["stopped"]["x"], there["stopped"]["y"]) == ([10], [0.4])
    assert there["stopped"]["text"] == ["trial 3 stopped<br>behind &lt;its&gt; peers"]
    assert there["failed"]["text"] == ["trial 4 failed<br>diverged"]
    assert there["on the front"]["x"] == [10, 20, 10]
    valid(figure)
    assert search_figures.curves(snapshot([trial(0, state="failed")])) is None


def test_a_third_objective_is_told():
    there = snapshot([trial(0, (100, 0.5))], ObjectivesSpec(third="seconds"))
    figure = search_figures.front(there, REFERENCE)
    assert "<br>time 10s<br>" in traces(figure)["lora-drop"]["text"][0]


@pytest.mark.parametrize(
    "trials",
    [[], [trial(0, (0, 0.5))], [trial(0, (0, 0.5), control=True)]],
    ids=["none", "no parameters", "control alone"],
)
def test_odd_searches_can_be_drawn(trials):
    valid(search_figures.front(snapshot(trials), REFERENCE))
    for figure in search_figures.growth(snapshot(trials), REFERENCE, ObjectivesSpec()).values():
        valid(figure)
