"""Displays of hand-written searches."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from autorank.display.base import Display, Locations, Quiet
from autorank.display.events import Events
from autorank.display.factory import choose
from autorank.display.formatting import new_confirmations
from autorank.display.lines import Lines
from autorank.display.live_table import Board, LiveTable
from autorank.display.progress import Pace
from autorank.display.summary import finish, notes
from autorank.reporting.tables import NOTHING
from autorank.searching.search import Outcome
from tests.rich_text import printed_lines
from tests.trials.trial_factories import START, search, sliced, snapshot, trial

REFERENCE = (200_000.0, 0.0)
SETTINGS = {"learning_rate": 1.2345e-3, "threshold": 0.9, "beta": 0.85, "rank": 8}
LONG = search(
    "lora-drop", "adalora", "increlora", "sparse-adapter", "elalora", baseline=True,
    name="a-very-long-name-that-somebody-has-chosen-for-a-search-for-whatever-reason-in-2026",
)  # fmt: skip


def large_snapshot():
    """A snapshot with methods, a baseline, failures, running trials and confirmations, for the largest display."""
    ended = [
        trial(i, (9216 * (i + 1), 0.7 + 0.01 * i), method="sparse-adapter", settings=SETTINGS | {"rank": i})
        for i in range(9)
    ]
    ended += [trial(9, (9000, 0.69), baseline=True, method="lora"), trial(10, state="failed", reason="out of memory")]
    ended += [trial(11, (900, 0.5), state="pruned", reason="beaten")]
    running = [
        trial(12 + i, *([(9216, 0.6)] if i % 2 else []), state="running", settings=SETTINGS, sampled=SETTINGS)
        for i in range(12)
    ]
    confirmed = {(0, 10, 9216, 1): {"score": 0.7}, (0, 10, 9216, 2): {"score": 0.71}}
    return replace(snapshot([*ended, *running]), requested=1000, reference=REFERENCE, confirmed=confirmed)


@pytest.mark.parametrize("width", [80, 160])
def test_the_board_fits_a_terminal(width):
    full = large_snapshot()
    for content in (NOTHING, replace(NOTHING, requested=20), replace(full, points=[], baseline=[]), full):
        lines = printed_lines(Board(LONG, Pace(600)).render(content), width)
        assert max(map(len, lines)) <= width and len(lines) <= 24
    for line in lines[-4:]:  # no figure of the front is cut, whatever becomes of the settings
        assert "…" not in line.rpartition("sparse-adapter")[0]


def test_the_live_table_shows_progress_results_and_speed():
    now = [START]
    pace = Pace(None, lambda: now[0])
    board = Board(search(), pace)
    running = [trial(0, state="running", sampled=SETTINGS, settings=SETTINGS)]
    assert printed_lines(board.render(replace(snapshot(running), requested=4)), 80)[:3] == [
        "first  lora-drop on demo", "0/4 trials, 0s so far", "0 points on the front",
    ]  # fmt: skip
    now[0] += 60
    trials = [trial(0, (50_000, 0.5), (50_000, 0.8)), trial(1, state="failed", reason="broke", ended=START + 30)]
    lines = printed_lines(board.render(replace(snapshot(trials), requested=4, reference=REFERENCE)), 80)
    # 20 steps in 60 s; two trials in 60 s, two are left; 0.75 of the box's width times 0.8
    assert lines[1] == "2/4 trials, 0.333 steps/s, 1m 00s so far, about 1m 00s left"
    assert lines[2] == "1 point from 1 trial on the front, best 0.8000, hypervolume 0.6000, 1 failed"
    now[0] += 60
    assert pace(replace(snapshot(trials), requested=4)).steps_per_second == pytest.approx(1 / 3)  # no news: no slower


def test_steps_of_earlier_sessions_do_not_count_as_speed():
    now = [START]
    pace = Pace(None, lambda: now[0])
    earlier = [trial(0, (10, 0.5), (10, 0.6), state="running")]
    assert pace(snapshot(earlier)).steps_per_second is None
    now[0] += 10
    later = [trial(0, (10, 0.5), (10, 0.6), (10, 0.7), state="running")]
    assert pace(snapshot(later)).steps_per_second == pytest.approx(1.0)


def test_each_line_is_printed_once_and_for_this_session_only():
    console = Console(width=80, file=io.StringIO(), color_system=None)
    lines = Lines(console, search(), Locations(Path("/runs/first")), False)
    new_trial = trial(1, (10, 0.5), ended=4e9, sampled={"rank": 8})
    with lines:
        for trials in ([trial(0, (10, 0.5))], [trial(0, (10, 0.5)), new_trial], [trial(0, (10, 0.5)), new_trial]):
            lines.update(replace(snapshot(trials), requested=3))
    assert console.file.getvalue().splitlines() == [
        "first  lora-drop on demo", "[2/3] trial 1 complete: 10 parameters, score 0.5000  rank 8",
    ]  # fmt: skip


def test_a_failed_and_repeated_confirmation_is_printed():
    results = {(1, 20, 64, 5): {"failed": "out of memory"}, (1, 20, 64, 6): {"score": 0.7}}
    before = replace(snapshot([]), confirmed=results)
    now = replace(before, confirmed=before.confirmed | {(1, 20, 64, 5): {"score": 0.8}})
    assert new_confirmations(before.confirmed, now.confirmed) == [((1, 20, 64, 5), {"score": 0.8})]
    assert new_confirmations(now.confirmed, now.confirmed) == []


def test_confirmations_are_printed_in_order():
    console = Console(width=80, file=io.StringIO(), color_system=None)
    lines = Lines(console, search(), Locations(Path("/runs/first")), False)
    lines.update(snapshot([]))
    keys = [(trial, 10 * step, 2048, seed) for trial in (3, 1, 2) for step in (2, 1) for seed in (7, 5)]
    lines.update(replace(snapshot([]), confirmed={key: {"score": 0.5} for key in keys}))
    assert console.file.getvalue().splitlines() == [
        f"trial {trial}, step {step}, 2,048 parameters confirmed with seed {seed}: score 0.5000"
        for trial, step, _, seed in sorted(keys)
    ]


def printed_events(capsys):
    lines = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    assert all(isinstance(line.pop("time"), float) for line in lines)
    return lines


def test_events(capsys):
    events = Events(search(), Path("/runs/first"))
    ended_trial = trial(0, (10, 0.5))
    with events:
        events.update(replace(snapshot([ended_trial]), requested=3, reference=REFERENCE))
        events.update(replace(snapshot([ended_trial, trial(1, state="running")]), requested=3, reference=REFERENCE))
        pruned_trial = trial(1, (20, float("nan")), (20, 0.9), state="pruned", reason="beaten")
        last = replace(snapshot([ended_trial, pruned_trial]), requested=3, reference=REFERENCE)
        events.update(last)
        events.update(last)
        last = replace(last, confirmed={(1, 20, 64, 5): {"score": 0.8}})
        events.update(last)
    events.end(Outcome(last, "time budget", True, 1))
    lines = printed_events(capsys)
    assert [line["event"] for line in lines] == [
        "start", "front", "trial_start", "evaluation", "evaluation", "front", "trial_end", "confirmation", "end",
    ]  # fmt: skip
    start, front, trial_start, first, second, _, ended, confirmed, end = lines
    assert (start["search"], start["ended"], start["requested"], start["baseline"]) == ("first", 1, 3, None)
    assert [point["trial"] for point in front["points"]] == [0] and front["hypervolume"] == pytest.approx(0.5, rel=1e-3)
    assert trial_start["settings"] == pruned_trial.settings and (first["score"], second["score"]) == (None, 0.9)
    assert "ranks" not in first and second["step"] == 20
    assert (ended["state"], ended["reason"], ended["ended"]) == ("pruned", "beaten", 2)
    names = ("adapter_params", "seed", "score", "failed")
    assert [confirmed[name] for name in names] == [64, 5, 0.8, None]
    assert (end["ending"], end["unconfirmed"], len(end["front"])) == ("time budget", 1, 2)


def test_events_have_slices(capsys):
    events = Events(search(), Path("/runs/first"))
    with events:
        events.update(snapshot([]))
        events.update(
            replace(snapshot([trial(0, sliced(10, 90, 0.9, (30, 0.7)), state="running")]), reference=REFERENCE)
        )
    _, _, evaluation, front = printed_events(capsys)
    assert evaluation["slices"] == [{"adapter_params": 30, "score": 0.7, "metrics": {"accuracy": 0.7}}]
    assert [(point["adapter_params"], point["cut_from"]) for point in front["points"]] == [(30, 90), (90, None)]


def test_the_board_counts_points_and_their_trials():
    search_snapshot = replace(
        snapshot([trial(0, sliced(10, 90, 0.9, (30, 0.7), (9, 0.6)))]), requested=1, reference=REFERENCE
    )
    text = printed_lines(Board(search(), Pace(None, lambda: START)).render(search_snapshot), 80)
    assert text[2].startswith("3 points from 1 trial on the front, best 0.9000")


def test_the_board_shows_a_new_score_of_a_point():
    board = Board(search(), Pace(None, lambda: START))
    for score in (0.61, 0.62):
        search_snapshot = snapshot([trial(0, (100, 0.7)), trial(1, (80, score), baseline=True)])
        confirmed = replace(search_snapshot, confirmed={(0, 10, 100, 5): {"score": score}})
        assert f" {score:.4f} " in printed_lines(board.render(confirmed), 80)[-1]
    assert f"{0.7 - 0.62:+.4f}" in printed_lines(board.render(search_snapshot), 80)[-1]


def test_docs_list_the_events_and_their_fields(capsys):
    test_page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    events = Events(LONG, Path("/runs"))
    events.update(NOTHING)
    events.update(large_snapshot())
    events.end(Outcome(large_snapshot(), "trials", True, 0))
    fields = {(line["event"], name) for line in printed_events(capsys) for name in line if name != "event"}
    rows = {row.split("|")[1].strip(" `"): row for row in test_page.splitlines() if row.startswith("| `")}
    assert {event for event, _ in fields} == set(rows)
    assert [pair for pair in fields if f"`{pair[1]}`" not in rows[pair[0]]] == []


def test_a_closed_pipe_does_not_stop_events(tmp_path):
    script = (
        "from pathlib import Path; from autorank.display.events import Events\n"
        "from tests.display.test_display import large_snapshot, LONG\n"
        "events = Events(LONG, Path('x'))\n"
        "for _ in range(2000): events._emit('again', text='x' * 100)\n"
        "events.update(large_snapshot()); import sys; print('still here', file=sys.stderr)\n"
    )
    result = subprocess.run(
        f"{sys.executable} -c \"$SCRIPT\" | head -1", shell=True, capture_output=True, text=True,
        env=os.environ | {"SCRIPT": script}, cwd=Path(__file__).parents[2], timeout=600,
    )  # fmt: skip
    assert result.stderr == "still here\n" and len(result.stdout.splitlines()) == 1


def test_quiet_prints_the_folder_alone(capsys):
    quiet = Quiet(Path("/runs/first"))
    with quiet:
        quiet.update(large_snapshot())
    quiet.end(Outcome(large_snapshot(), "trials", True, 0))
    assert capsys.readouterr().out == "/runs/first\n"


def test_display_depends_on_options_and_terminal(monkeypatch, tmp_path):
    def chosen(**options):
        return type(choose(search(), Locations(tmp_path), None, True, **options))

    assert chosen(json=True, quiet=True) is Events and chosen(quiet=True) is Quiet
    assert chosen() is Lines
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert chosen() is LiveTable
    monkeypatch.setenv("TERM", "dumb")
    assert chosen() is Lines


def test_warnings_go_to_stderr(capsys):
    Display().warn("[look] out")
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "autorank: [look] out\n")


def test_label_summary_is_printed_unless_quiet():
    console = Console(width=40, file=io.StringIO(), color_system=None)
    locations = Locations(Path("/a folder/first"))
    Lines(console, search(), locations, False).inform("label: 2 classes: [a] 50%, b 50%")
    LiveTable(console, search(), None, locations, False).inform("label: numbers from 1 to 2")
    Quiet(Path("/a folder/first")).inform("label: numbers from 3 to 4")
    assert console.file.getvalue() == "label: 2 classes: [a] 50%, b 50%\nlabel: numbers from 1 to 2\n"


@pytest.mark.parametrize("commands", [True, False])
def test_the_end_suggests_the_next_commands(commands):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    resume = "autorank resume first --stop-when-flat --runs '/a folder'"
    locations = Locations(Path("/a folder/first"), " --runs '/a folder'", " --tracking-uri http://host", resume)
    finish(console, search(), Outcome(large_snapshot(), "interrupted", False, 2), locations, commands)
    text = console.file.getvalue()
    assert "autorank sync first" in text
    assert f"all results are kept. To continue: {resume}\n" in text
    assert ("autorank export first --knee" in text) == commands
    assert ("optuna-dashboard '/a folder/first/journal.log'   # pip install optuna-dashboard\n" in text) == commands
    assert ("autorank report first --runs '/a folder'\n" in text) == commands
    assert max(len(line) for line in text.partition("\nInterrupted")[0].splitlines()) <= 80  # commands are not wrapped
    (flat,) = notes("first", Outcome(large_snapshot(), "flat", True, 0), locations)
    assert flat.endswith("autorank resume first --runs '/a folder'")  # with --stop-when-flat it would stop at once
