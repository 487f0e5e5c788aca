"""Parallel coordinates show the trials; importance finds the setting that decides the score."""

from __future__ import annotations

import math
import random

import pytest

from autorank.reporting.html.setting_figures import (
    MIN_TRIALS,
    importance_figure,
    parallel_coordinates,
    setting_importances,
    shared_parallel_coordinates,
)
from autorank.spec import MethodSpec
from tests.trials.trial_factories import trial

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
    "rank": {"type": "int", "low": 1, "high": 64, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "shape": {"choices": ["step", None, "<b>"]},
}
ENTRY = MethodSpec(method="lora", space=SPACE)


def trial_with(number, score, params=100, **settings):
    settings = {"learning_rate": 1e-3, "rank": 4, "dropout": 0.1, "shape": "step"} | settings
    return trial(number, (params, score), settings=settings, sampled=settings, sampler_values=(score,), method="lora")


def test_axes_show_the_ranges_that_were_tried():
    import plotly.graph_objects as go

    figure = parallel_coordinates(
        ENTRY,
        [trial_with(0, 0.5), trial_with(1, 0.9, 10_000, learning_rate=1e-4, shape="<b>"), trial(2, method="lora")],
    )
    axes = {axis["label"]: axis for axis in figure["data"][0]["dimensions"]}
    assert list(axes) == ["learning_rate", "rank", "dropout", "shape", "parameters", "score"]
    assert axes["learning_rate"]["values"] == [math.log10(1e-3), math.log10(1e-4)]
    assert axes["learning_rate"]["ticktext"] == ["0.0001", "0.0002", "0.0005", "0.001"]
    assert axes["rank"]["values"] == [math.log10(4)] * 2 and axes["dropout"]["range"] == [-0.4, 0.6]
    assert axes["shape"]["ticktext"] == ["<b>", "step"] and axes["shape"]["values"] == [1, 0]
    assert axes["parameters"]["values"] == [2.0, 4.0] and axes["parameters"]["ticktext"][-1] == "10k"
    assert axes["score"]["values"] == figure["data"][0]["line"]["color"] == [0.5, 0.9]
    go.Figure(figure)
    assert parallel_coordinates(ENTRY, [trial(0, state="failed")]) is None


def test_shared_axes_of_several_methods():
    vera = MethodSpec(method="vera", space={"learning_rate": SPACE["learning_rate"], "rank": {"choices": [1, 4]}})
    figure = shared_parallel_coordinates(
        [ENTRY, vera],
        [trial_with(0, 0.5), trial(1, (20, 0.6), method="vera", settings={"learning_rate": 0.01, "rank": 1})],
    )
    axes = {axis["label"]: axis for axis in figure["data"][0]["dimensions"]}
    assert list(axes) == ["method", "learning_rate", "rank", "parameters", "score"]
    assert axes["method"]["ticktext"] == ["lora", "vera"] and axes["method"]["values"] == [0, 1]
    assert axes["learning_rate"]["values"] == [-3.0, -2.0]  # both say log
    assert axes["rank"]["ticktext"] == ["1", "4"] and axes["rank"]["values"] == [1, 0]  # one has choices
    assert shared_parallel_coordinates([ENTRY, vera], [trial(0, state="failed")]) is None


@pytest.mark.parametrize("matters", ["learning_rate", "dropout", "shape"])
def test_the_setting_that_decides_the_score_is_the_most_important(matters):
    rng = random.Random(0)
    trials = []
    for number in range(200):
        settings = {
            "learning_rate": 10 ** rng.uniform(-5, -2), "dropout": rng.uniform(0, 0.5),
            "rank": rng.randint(1, 64), "shape": rng.choice(["step", None, "<b>"]),
        }  # fmt: skip
        quality = {"learning_rate": (math.log10(settings["learning_rate"]) + 5) / 3, "dropout": 2 * settings["dropout"]}
        quality["shape"] = float(settings["shape"] == "step")
        trials.append(trial_with(number, 0.5 + 0.4 * quality[matters], **settings))
    importances = setting_importances(ENTRY, trials)
    assert (
        next(iter(importances)) == matters
        and importances[matters] > 0.5
        and sum(importances.values()) == pytest.approx(1)
    )
    assert set(importances) == set(SPACE) and setting_importances(ENTRY, trials) == importances
    figure = importance_figure(importances)
    assert figure["data"][0]["y"][-1] == matters and figure["data"][0]["x"] == sorted(importances.values())


def test_importance_needs_enough_trials_and_settings():
    too_few = [trial_with(i, 0.5 + i / 100) for i in range(MIN_TRIALS - 1)]
    assert setting_importances(ENTRY, [*too_few, trial(99, state="failed", method="lora")]) == (
        "It needs 15 finished trials with a score; lora has 14."
    )
    enough = [trial_with(i, 0.5 + i / 100) for i in range(MIN_TRIALS)]
    single_setting = MethodSpec(method="lora", space={"rank": SPACE["rank"]})
    assert setting_importances(single_setting, enough) == "Only one setting of lora was searched."


def test_a_third_objective_counts():
    trials = [
        trial(i, (100, 0.5), sampled={"rank": 1 + i, "dropout": 0.1 * (i % 5)}, sampler_values=(0.5, 1.0 + i))
        for i in range(40)
    ]
    entry = MethodSpec(method="lora-drop", space={"rank": SPACE["rank"], "dropout": SPACE["dropout"]})
    assert next(iter(setting_importances(entry, trials))) == "rank"
