"""Functions of the page's script, run by node and compared with the Python implementation."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files

import pytest

from autorank.trials.front import front
from autorank.trials.selection import pick
from tests.trials.trial_factories import trial

SCRIPT = str(files("autorank.reporting.html").joinpath("page.js"))
node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run(expression, **values):
    """The value of a JavaScript expression; `p` holds the script's functions, `v` the values."""
    program = f"const p = require({json.dumps(SCRIPT)}), v = {json.dumps(values)};"
    program += f"console.log(JSON.stringify({expression}))"
    process = subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@node
def test_the_slider_picks_what_export_picks():
    points = front([trial(0, (100, 0.6)), trial(1, (200, 0.7), (150, 0.65)), trial(2, (1000, 0.9))])
    rows = [{"params": p.adapter_params, "score": p.score, "trial": p.trial, "step": p.step} for p in points]
    limits = [100, 101, 149, 150, 199, 200, 999, 1000, 10**6]
    picked = run("v.limits.map(n => p.pick(v.rows, n))", rows=rows, limits=limits)
    expected = [pick(points, max_params=limit) for limit in limits]
    assert [(r["trial"], r["step"]) for r in picked] == [(p.trial, p.step) for p in expected]
    assert run("p.pick(v.rows, 99)", rows=rows) is None


@node
def test_with_a_third_objective_a_larger_point_may_score_less():
    rows = [{"params": 1, "score": 0.5}, {"params": 2, "score": 0.4}, {"params": 3, "score": 0.5}]
    assert run("v.limits.map(n => p.pick(v.rows, n).params)", rows=rows, limits=[1, 2, 3]) == [1, 1, 1]
    rows.append({"params": 9, "score": 0.6})
    assert run("p.stops(v.rows).map(point => point.params)", rows=rows) == [1, 9]


@node
@pytest.mark.parametrize(("smallest", "largest"), [(100, 1_000_000), (0, 5000), (300, 301), (7, 7)])
def test_the_slider_reaches_every_point(smallest, largest):
    ends = run("[p.atPosition(0, v.a, v.b), p.atPosition(1000, v.a, v.b)]", a=smallest, b=largest)
    assert ends == [smallest, largest]
    pairs = run(
        "Array.from({length: 101}, (_, i) => Math.round(v.a + (v.b - v.a) * i / 100))"
        ".map(n => [n, p.atPosition(p.positionOf(n, v.a, v.b), v.a, v.b)])", a=smallest, b=largest,
    )  # fmt: skip
    for target, reached in pairs:  # a position stands for no more than was asked for, and for little less
        assert reached <= target + 1 and reached >= target * (max(smallest, 1) / largest) ** 0.001 - 1


@node
def test_counts_are_read_as_the_command_line_reads_them():
    texts = ["150000", "150,000", "150k", "1.2M", " 20 k", "", "many", "-3", "1e5"]
    assert run("v.texts.map(p.parseCount)", texts=texts) == [150_000, 150_000, 150_000, 1_200_000, 20_000, *[None] * 4]


@node
def test_columns_sort_as_numbers_where_they_are_numbers():
    assert run("v.keys.sort(p.compareKeys)", keys=["10", "9", "", "-1.5", "1e3"]) == ["", "-1.5", "9", "10", "1e3"]
    assert run("v.keys.sort(p.compareKeys)", keys=["b", "a10", "a9"]) == ["a10", "a9", "b"]
