"""`report` and `compare` on small hand-written journals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.trials.journal.journal import Journal
from tests.cli.commands import invoke
from tests.reporting.html.page_reader import Page
from tests.trials.trial_factories import evaluation, search


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A directory with two searches in `runs`."""
    monkeypatch.chdir(tmp_path)
    for name, score in (("one", 0.7), ("two", 0.8)):
        with Journal.create(Path("runs", name), search(name=name), (1000.0, 0.0)) as journal:
            number = journal.begin("lora-drop", {"rank": 4}, {}).number
            journal.record(number, evaluation(10, 100, score), last=True)
            journal.finish(number, "complete")
    return tmp_path


def test_a_report_is_written_to_the_search_directory(workspace):
    assert "runs/one/report.html" in invoke("report", "one")
    page = Page((workspace / "runs" / "one" / "report.html").read_text(encoding="utf-8"))
    assert page.data["points"][0]["command"] == "autorank export one --max-params 100 --to one-adapter"


def test_a_report_and_figures_at_custom_paths(workspace):
    out = invoke("report", "one", "--to", "new/a.html", "--figures", "pictures")
    assert "new/a.html" in out and (workspace / "new" / "a.html").is_file()
    assert not (workspace / "runs" / "one" / "report.html").exists()
    assert {file.name for file in (workspace / "pictures").iterdir()} == {
        f"{name}.{ending}" for name in ("front", "hypervolume", "ranks") for ending in ("png", "svg")
    }


def test_paths_are_printed_without_markup(workspace):
    assert "Report written to odd[/x]/a[v2].htm\nFigures written to [red]" in invoke(
        "report", "one", "--to", "odd[/x]/a[v2].htm", "--figures", "[red]"
    )


def test_searches_are_compared(workspace):
    assert "two" in invoke("compare", "one", "two")
    _, row = json.loads(invoke("compare", "one", "two", "--format", "json", "--to", "fronts.html"))
    assert row["name"] == "two" and row["ratio"] == pytest.approx(8 / 7) and (workspace / "fronts.html").is_file()
    invoke("compare", "one", "two", "--to", "fronts.htm")
    assert (workspace / "fronts.htm").read_bytes() == (workspace / "fronts.html").read_bytes()
    assert invoke("compare", "one", "two", "--format", "csv", "--to", "fronts.svg").startswith("name,")
    assert (workspace / "fronts.svg").read_bytes().startswith(b"<?xml")


def test_a_copied_search_is_compared_under_the_name_of_its_directory(workspace, monkeypatch):
    shutil.copytree(workspace / "runs" / "one", workspace / "runs" / "copy$of$one")
    figures = []
    monkeypatch.setattr("autorank.reporting.html_report.save_figure", lambda figure, to: figures.append(figure))
    words = ("compare", "one", "copy$of$one", "--to", "fronts.png", "--format", "json")
    assert [row["name"] for row in json.loads(invoke(*words))] == ["one", "copy$of$one"]
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "copy$of$one"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "none"], "Unknown search .none."),
        (["report", "one", "--to", "a.pdf"], "ends in .html"),
        (["compare", "one"], "at least two searches"),
        (["compare", "one", "one"], "listed twice"),
        (["compare", "one", "two", "--to", "a.pdf"], "ends in .png"),
    ],
)
def test_user_errors(workspace, words, message):
    with pytest.raises(AutorankError, match=message):
        invoke(*words)
