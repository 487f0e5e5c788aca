"""Tables that fit a terminal, JSON and CSV that programs can read back."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from rich.console import Console

from autorank.results.front import front
from autorank.results.report import count, duration, front_csv, front_json, front_table, rank_table, trials_table
from tests.results.made_trials import trial


def shown(table):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0"),
        (860, "860"),
        (1000, "1k"),
        (9216, "9.22k"),
        (10_000, "10k"),
        (147_456, "147k"),
        (999_400, "999k"),
        (999_500, "1M"),
        (1_180_000, "1.18M"),
        (124_647_170, "125M"),
        (7e9, "7G"),
    ],
)
def test_count(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0s"), (48, "48s"), (59.6, "1m 00s"), (200, "3m 20s"), (7500, "2h 05m")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_front_table():
    trials = [trial(0, (9216, 0.7)), trial(1, (147_456, 0.81234)), trial(2, (36_864, 0.8))]
    assert shown(front_table(front(trials))) == [
        "trial  step  parameters   score        settings",
        "    0    10       9.22k  0.7000        lr 0.001",
        "    2    10       36.9k  0.8000  knee  lr 0.003",
        "    1    10        147k  0.8123        lr 0.002",
    ]


def test_trials_table_gives_reasons_and_fits():
    trials = [
        trial(0, (9216, 0.7), (100, math.nan)),
        trial(1, state="failed", reason="out of memory: 3.2 GB more were asked for than there are; " * 2),
        trial(2, (9216, 0.6), state="running", seconds=0.0),
    ]
    lines = shown(trials_table(trials))
    assert lines[1].split() == ["0", "complete", "9.22k", "0.7000", "1m", "00s", "lr", "0.001"]
    assert "failed" in lines[2] and "out of memory" in lines[2]
    assert all(len(line) <= 80 for line in lines)


def test_no_points_no_rows():
    assert len(shown(front_table([]))) == len(shown(trials_table([]))) == 1
    assert json.loads(front_json([])) == []
    assert front_csv([]) == "trial,step,adapter_params,nonzero_params,score,knee\n"


def test_front_json_is_strict_and_whole():
    trials = [trial(0, (100, 0.7))]
    trials[0].evaluations[0].metrics["f1"] = math.nan
    trials[0].config["target_modules"] = ("query", "value")
    (point,) = json.loads(front_json(front(trials)), parse_constant=pytest.fail)
    assert point == {
        "trial": 0,
        "step": 10,
        "adapter_params": 100,
        "nonzero_params": 100,
        "score": 0.7,
        "knee": True,
        "metrics": {"accuracy": 0.7, "f1": None},
        "config": {"learning_rate": 0.001, "rank": 8, "target_modules": ["query", "value"]},
    }


def test_front_csv():
    trials = [trial(0, (100, 0.7)), trial(1, (200, 0.8))]
    trials[1].config["target_modules"] = ["query", "value"]
    first, second = csv.DictReader(io.StringIO(front_csv(front(trials))))
    assert (first["adapter_params"], first["metrics.accuracy"], first["config.target_modules"]) == (
        "100",
        "0.7",
        "",
    )
    assert json.loads(second["config.target_modules"]) == ["query", "value"]


def test_rank_table_is_a_map_with_the_first_layer_at_the_bottom():
    ranks = {"h.0.attn.out": 12, "h.0.out": 0, "h.1.out": 3}
    assert shown(rank_table(ranks)) == [
        "       attn.",
        "layer    out  out",
        "    1           3",
        "    0     12    0",
    ]


def test_rank_table_loses_nothing_where_it_is_too_wide():
    ranks = {f"h.0.quite_a_long_name_{i}": 100 + i for i in range(12)}
    numbers = shown(rank_table(ranks))[-1].split()
    assert numbers == ["0", *(str(100 + i) for i in range(12))]
