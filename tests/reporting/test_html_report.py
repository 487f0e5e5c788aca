"""A report shows the journal's data, escapes its texts and is self-contained."""

from __future__ import annotations

import json
import shlex

import pytest

from autorank.errors import AutorankError
from autorank.reporting.front_csv_json import front_rows
from autorank.reporting.html_report import render_report, write_figures, write_page
from autorank.spec import ObjectivesSpec, TaskSpec
from autorank.trials.front import front
from autorank.trials.selection import pick
from autorank.trials.statistics.certainty import assess
from tests.reporting.html.page_reader import Page
from tests.reporting.html.test_document import HOSTILE
from tests.trials.searches_with_predictions import small_search
from tests.trials.trial_factories import base_ranks, evaluation, search, sliced, snapshot, trial


@pytest.fixture
def trials():
    ranks = base_ranks()
    searched_trials = [
        trial(i, evaluation(10, 1000 * 2**i, 0.5 + 0.04 * i, ranks=ranks), method=("lora-drop", "increlora")[i % 2])
        for i in range(8)
    ]
    return [
        *searched_trials,
        trial(8, (2000, 0.4), (2000, 0.55), method="lora", baseline=True),
        trial(9, (500, 0.2), state="pruned", reason="below the best third of its peers"),
        trial(10, state="failed", reason="out of memory"),
        trial(11, (900, 0.45), state="running"),
    ]


SECTIONS = {"front", "growth", "curves", "ranks", "settings", "trials"}
SPEC = search("lora-drop", "increlora", baseline=True)


def test_page_data_equal_the_journal(trials):
    search_snapshot = snapshot(trials)
    page = Page(render_report(search_snapshot, SPEC))
    assert len(page.ids()) == len(set(page.ids()))
    assert {"title", "summary", *SECTIONS, "theme", "slider", "most"} <= set(page.ids())
    assert page.texts["title"] == "first" and page.texts["about"] == "lora-drop, increlora on demo"
    rows = front_rows(search_snapshot)
    assert [(p["trial"], p["step"], p["params"], p["score"], p["knee"]) for p in page.data["points"]] == [
        (r["trial"], r["step"], r["adapter_params"], r["score"], r["knee"]) for r in rows
    ]
    gains = [row["gain_over_baseline"] for row in rows]
    assert [p["facts"]["Gain over plain LoRA"] for p in page.data["points"]] == [
        "no plain LoRA is as small" if gain is None else f"{gain:+.4f}" for gain in gains
    ]
    head, *cells = page.tables["trials-table"]
    assert [int(row[0]) for row in cells] == list(range(12))
    assert [row[head.index("state")] for row in cells] == ["complete"] * 9 + ["stopped", "failed", "unfinished"]
    assert cells[9][-1] == "below the best third of its peers" and cells[10][-1] == "out of memory"
    assert cells[8][1] == "lora (baseline)" and cells[8][head.index("score")] == "0.5500"
    params = [int(row[0].replace(",", "")) for row in page.tables["front-table"][1:]]
    assert params == [r["adapter_params"] for r in rows]


def test_slices_name_the_adapter_they_were_cut_from(trials):
    curve = sliced(10, 200_000, 0.95, (50, 0.6), (100_000, 0.93), ranks=base_ranks())
    search_snapshot = snapshot([*trials, trial(12, curve)])
    page = Page(render_report(search_snapshot, SPEC))
    slices = [point for point in page.data["points"] if "Cut from" in point["facts"]]
    assert [(p["trial"], p["params"], p["facts"]["Cut from"]) for p in slices] == [
        (12, params, "200,000 parameters") for params in (50, 100_000)
    ]
    head, *rows = page.tables["front-table"]
    assert [row[head.index("cut from")] for row in rows] == [
        "200,000" if p.component_masks else "" for p in search_snapshot.points
    ]
    head, *rows = page.tables["trials-table"]
    assert [row[head.index("slices")] for row in rows] == ["0"] * 12 + ["2"]
    ranks = page.data["figures"]["ranks-12-10-100000"]["data"][0]["z"]
    assert sum(rank for row in ranks for rank in row) == 2  # two components of the first layer
    assert "Slices are more scores to select from" in render_report(search_snapshot, SPEC)
    assert "Slices are" not in render_report(snapshot(trials), SPEC)


def test_every_figure_can_be_chosen_and_shown(trials):
    page = Page(render_report(snapshot(trials), SPEC))
    figures = page.data["figures"]
    visible = {a["data-figure"] for _, a in page.elements if "data-figure" in a}
    options = [a["value"] for tag, a in page.elements if tag == "option"]
    prefixes = [
        prefix for tag, a in page.elements if tag == "select" for prefix in json.loads(a["data-plots"]).values()
    ]
    visible |= {prefix + value for prefix in prefixes for value in options} & set(figures)
    assert visible == set(figures)
    labeled = [a for _, a in page.elements if a.get("class") == "plot"]
    assert labeled and all(a["role"] == "img" and a["aria-label"] for a in labeled)
    assert figures["importance-0"] == {
        "note": "Importance is not available. It needs 15 finished trials with a score; lora-drop has 0."
    }


def test_the_command_exports_the_point_that_is_shown(trials):
    search_snapshot = snapshot(trials)
    for row in Page(render_report(search_snapshot, SPEC)).data["points"]:
        words = shlex.split(row["command"])
        assert words[:3] == ["autorank", "export", "first"] and "--runs" not in words
        point = pick(search_snapshot.points, max_params=int(words[words.index("--max-params") + 1]))
        assert (point.trial, point.step) == (row["trial"], row["step"])


def test_commands_with_a_third_objective_name_trial_and_step():
    slow, fast = evaluation(10, 100, 0.9, seconds=50.0), evaluation(20, 200, 0.8, seconds=5.0)
    search_snapshot = snapshot([trial(0, slow), trial(1, fast)], ObjectivesSpec(third_objective="seconds"))
    for row, point in zip(
        Page(render_report(search_snapshot, SPEC)).data["points"], search_snapshot.points, strict=True
    ):
        assert f"--trial {point.trial} --step {point.step} " in row["command"]


def test_commands_name_a_custom_runs_directory(trials, tmp_path):
    page = Page(render_report(snapshot(trials), SPEC, tmp_path / "my runs"))
    assert shlex.split(page.data["points"][0]["command"])[-2:] == ["--runs", str(tmp_path / "my runs")]


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutorankError, match=r"Cannot write .*a\.html: .*Choose another --to"):
        write_page("", tmp_path / "file" / "a.html")


def test_equal_journals_give_equal_pages(trials):
    assert render_report(snapshot(trials), SPEC) == render_report(snapshot(list(trials)), SPEC)


def test_hostile_texts_stay_texts():
    settings = {HOSTILE: HOSTILE, "rank": 4}
    trials = [
        trial(0, evaluation(10, 100, 0.5, ranks={f"layer.0.{HOSTILE}": 3}), settings=settings, method=HOSTILE),
        trial(1, (50, 0.3), state="failed", reason=HOSTILE, settings=settings),
    ]
    spec = search(task=TaskSpec(name=HOSTILE), model=HOSTILE)
    page = Page(render_report(snapshot(trials), spec))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3 and "img" not in tags
    assert page.texts["about"] == f"lora-drop on {HOSTILE}, {HOSTILE}"
    assert page.tables["trials-table"][2][-1] == HOSTILE
    assert page.data["points"][1]["settings"][HOSTILE] == HOSTILE
    for trace in (trace for figure in page.data["figures"].values() for trace in figure.get("data", ())):
        assert all("<img" not in text and "<script" not in text for text in trace.get("text") or () if text)


@pytest.mark.parametrize(
    "trials",
    [[], [trial(0, state="running")], [trial(0, state="failed", reason="no")], [trial(0, (10, float("nan")))],
     [trial(0, (10, float("nan"))), trial(1, (10, float("nan")), method="lora", baseline=True)],
     [trial(0, (10, 0.5), method="lora", baseline=True)], [trial(0, evaluation(10, 0, 0.5, ranks={}))]],
    ids=["nothing", "running", "failed", "NaN", "NaN of two methods", "baseline alone", "no parameters"],
)  # fmt: skip
def test_a_search_with_little_data_has_a_page(trials, tmp_path):
    page = Page(render_report(snapshot(trials), search(baseline=True)))
    assert set(page.ids()) >= SECTIONS
    assert ("slider" in page.ids()) == bool(front(trials))
    assert all("note" in figure or {"data", "layout"} <= set(figure) for figure in page.data["figures"].values())
    write_figures(snapshot(trials), search(), tmp_path)


def test_pictures_for_papers(trials, tmp_path):
    search_snapshot = snapshot(trials)
    files = write_figures(search_snapshot, SPEC, tmp_path / "new" / "folder")
    names = ("front", "hypervolume", "ranks")
    assert [file.name for file in files] == [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    contents = [file.read_bytes() for file in files]
    assert all(content.startswith(b"\x89PNG" if i % 2 == 0 else b"<?xml") for i, content in enumerate(contents))
    assert [file.read_bytes() for file in write_figures(search_snapshot, SPEC, tmp_path)] == contents


def test_a_report_says_how_certain_the_front_is(tmp_path):
    search_snapshot = small_search(tmp_path)
    page = Page(render_report(search_snapshot, search(baseline=True)))
    certain = assess(search_snapshot).points[0, 10, 100]
    head, _, row = page.tables["front-table"]
    assert row[head.index("90%")] == f"{certain.low:.3f}-{certain.high:.3f}"
    assert row[head.index("on front")] == f"{certain.on_front:.0%}"
    assert row[head.index("better")] == f"{certain.better:.0%}"
    assert page.data["points"][1]["facts"]["Better than plain LoRA"] == f"{certain.better:.0%} of resamples"
    traces = page.data["figures"]["front"]["data"]
    low, high = [trace for trace in traces if trace.get("line", {}).get("width") == 0]
    assert (low["y"][-1], high["y"][-1], high["fill"]) == (certain.low, certain.high, "tonexty")
    assert write_figures(search_snapshot, search(), tmp_path / "figures")
