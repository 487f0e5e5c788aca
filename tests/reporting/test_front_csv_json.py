"""The front as JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from autorank.reporting.front_csv_json import front_csv, front_json
from autorank.reporting.tables import NOTHING
from tests.reporting.confirmed_front import CONFIRMED, THREE
from tests.trials.trial_factories import sliced, snapshot, trial


def test_no_points_no_rows():
    assert json.loads(front_json(NOTHING)) == []
    assert front_csv(NOTHING) == "trial,step,method,adapter_params,cut_from,nonzero_params,score,knee\n"


def test_figures_of_confirmed_points():
    search_snapshot = replace(snapshot(THREE), confirmed=CONFIRMED)
    rows = json.loads(front_json(search_snapshot), parse_constant=pytest.fail)
    assert rows[0]["confirmed"] == {
        "seeds": 2, "failed": 0, "mean": pytest.approx(0.69), "sd": pytest.approx(math.sqrt(2) * 0.01), "on_front": 1.0,
        "adapter_params": 9216.0, "gain_over_baseline": None,
        "low": pytest.approx(0.69 - 6.314 * 0.01, abs=6e-3), "high": pytest.approx(0.69 + 6.314 * 0.01, abs=6e-3),
        "better": None, "gain_low": None, "gain_high": None, "varied": "seeds",
    }  # fmt: skip
    assert rows[1]["confirmed"]["sd"] is None and "confirmed" not in rows[2]
    first, _, third = csv.DictReader(io.StringIO(front_csv(search_snapshot)))
    assert first["confirmed.seeds"] == "2" and third["confirmed.seeds"] == ""


def test_slices_name_the_size_they_were_cut_from():
    search_snapshot = snapshot([trial(0, sliced(10, 1000, 0.8, (100, 0.7)))])
    slice_row, adapter_row = json.loads(front_json(search_snapshot))
    assert (slice_row["adapter_params"], slice_row["cut_from"], slice_row["metrics"]) == (100, 1000, {"accuracy": 0.7})
    assert adapter_row["cut_from"] is None and "component_masks" not in slice_row
    assert [row["cut_from"] for row in csv.DictReader(io.StringIO(front_csv(search_snapshot)))] == ["1000", ""]


def test_front_json_is_strict_and_complete():
    trials = [trial(0, (100, 0.7))]
    trials[0].evaluations[0].metrics["f1"] = math.nan
    trials[0].settings["target_modules"] = ("query", "value")
    (point,) = json.loads(front_json(snapshot(trials)), parse_constant=pytest.fail)
    assert point == {
        "trial": 0,
        "step": 10,
        "method": "lora-drop",
        "adapter_params": 100,
        "cut_from": None,
        "nonzero_params": 100,
        "score": 0.7,
        "seconds": 10.0,
        "memory": 0,
        "knee": True,
        "metrics": {"accuracy": 0.7, "f1": None},
        "settings": {"learning_rate": 0.001, "rank": 8, "target_modules": ["query", "value"]},
    }


def test_front_csv():
    trials = [trial(0, (100, 0.7)), trial(1, (200, 0.8))]
    trials[1].settings["target_modules"] = ["query", "value"]
    first, second = csv.DictReader(io.StringIO(front_csv(snapshot(trials))))
    assert [row["method"] for row in (first, second)] == [
        "lora-drop",
        "lora-drop",
    ] and "gain_over_baseline" not in first
    assert (first["adapter_params"], first["metrics.accuracy"], first["settings.target_modules"]) == (
        "100",
        "0.7",
        "",
    )
    assert json.loads(second["settings.target_modules"]) == ["query", "value"]


def test_gains_go_into_json_and_csv():
    trials = [trial(0, (100, 0.7)), trial(1, (200, 0.9)), trial(2, (150, 0.8), baseline=True, method="lora")]
    search_snapshot = snapshot(trials)
    assert [row["gain_over_baseline"] for row in json.loads(front_json(search_snapshot))] == [None, pytest.approx(0.1)]
    assert [row["gain_over_baseline"] for row in csv.DictReader(io.StringIO(front_csv(search_snapshot)))] == [
        "",
        str(0.9 - 0.8),
    ]


def test_gains_for_programs_are_those_of_the_table():
    baseline = trial(3, (10_000, 0.7), baseline=True, method="lora")
    search_snapshot = snapshot([trial(0, (9216, 0.7)), trial(1, (147_456, 0.8)), baseline])
    search_snapshot = replace(
        search_snapshot, confirmed={(1, 10, 147_456, 1): {"score": 0.74}, (3, 10, 10_000, 1): {"score": 0.72}}
    )
    assert [row["gain_over_baseline"] for row in json.loads(front_json(search_snapshot))] == [None, pytest.approx(0.02)]
