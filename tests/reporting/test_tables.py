"""Tables that fit a terminal."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from autorank.reporting.tables import (
    count,
    duration,
    front_summary,
    front_table,
    rank_table,
    trial_settings,
    trials_table,
)
from autorank.spec import ObjectivesSpec
from autorank.trials.front import front
from autorank.trials.statistics.certainty import assess
from tests.reporting.confirmed_front import CONFIRMED, THREE
from tests.rich_text import printed_lines
from tests.trials.searches_with_predictions import small_search
from tests.trials.trial_factories import sliced, trial
from tests.trials.trial_factories import snapshot as made_snapshot

REFERENCE = (1_000_000.0, 0.5)
snapshot = partial(made_snapshot, reference=REFERENCE)


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
    assert printed_lines(front_table(front(trials))) == [
        "trial  step  parameters   score        settings",
        "    0    10       9.22k  0.7000        lr 0.001",
        "    2    10       36.9k  0.8000  knee  lr 0.003",
        "    1    10        147k  0.8123        lr 0.002",
    ]


def test_front_table_shows_the_requested_settings():
    (_, row) = printed_lines(front_table(front([trial(0, (9216, 0.7))]), varied=["rank", "depth"]))
    assert row.split() == ["0", "10", "9.22k", "0.7000", "knee", "rank", "8"]


def test_front_table_with_a_baseline_has_gains():
    trials = [
        trial(0, (9216, 0.7)),
        trial(1, (147_456, 0.81234)),
        trial(2, (36_864, 0.8)),
        trial(3, (10_000, 0.75), (100_000, 0.81), baseline=True, method="lora"),
        trial(4, (9000, 0.6), (200_000, 0.9), baseline=True, method="lora"),
    ]
    search_snapshot = snapshot(trials)
    assert printed_lines(front_table(search_snapshot.points, search_snapshot)) == [
        "trial  step  parameters   score     gain        settings",
        "    0    10       9.22k  0.7000  +0.1000        lr 0.001",
        "    2    10       36.9k  0.8000  +0.0500  knee  lr 0.003",
        "    1    10        147k  0.8123  +0.0023        lr 0.002",
    ]
    smaller = snapshot([*trials[:3], trial(3, (40_000, 0.9), baseline=True)])
    assert printed_lines(front_table(smaller.points, smaller))[1:] == [
        "    0    10       9.22k  0.7000                 lr 0.001",
        "    2    10       36.9k  0.8000           knee  lr 0.003",
        "    1    10        147k  0.8123  -0.0877        lr 0.002",
    ]


def test_front_table_shows_the_adapter_of_each_slice():
    trials = [trial(0, sliced(10, 147_456, 0.8, (9216, 0.7), (36_864, 0.79))), trial(1, (200_000, 0.81))]
    assert printed_lines(front_table(front(trials))) == [
        "                          cut",
        "trial  step  parameters  from   score",
        "    0    10       9.22k  147k  0.7000",
        "    0    10       36.9k  147k  0.7900  knee",
        "    0    10        147k        0.8000",
        "    1    10        200k        0.8100",
    ]
    assert printed_lines(trial_settings(front(trials)))[1:] == [
        "trial 0: lora-drop, lr 0.001",
        "trial 1: lora-drop, lr 0.002",
    ]
    assert not trial_settings(front(trials[1:]))
    text = " ".join(" ".join(printed_lines(front_summary(snapshot(trials)))).split())
    assert "4 points from 2 trials on the front, out of 2 evaluations and 2 slices (trials: 2 complete);" in text


def test_front_table_names_methods_where_there_are_several():
    trials = [trial(0, (9216, 0.7)), trial(1, (147_456, 0.8), method="adalora", settings={"target_rank": 4})]
    assert printed_lines(front_table(front(trials))) == [
        "trial  step  parameters   score        method     settings",
        "    0    10       9.22k  0.7000        lora-drop  lr 0.001, rank 8",
        "    1    10        147k  0.8000  knee  adalora    target_rank 4",
    ]


def test_front_table_shows_the_confirmation_of_a_point():
    search_snapshot = replace(snapshot(THREE), confirmed=CONFIRMED)
    upper_header, header, first, second, third = printed_lines(front_table(search_snapshot.points, search_snapshot))
    assert header.split()[3:6] == ["score", "confirmed", "front"] and upper_header.split() == ["on"]
    assert first.split()[3:8] == ["0.7000", "0.6900", "±", "0.0141", "100%"]
    assert second.split()[3:7] == ["0.8000", "0.7500", "(1", "failed)"] and second.split()[7].endswith("%")
    (*_, second_alone) = printed_lines(front_table(search_snapshot.points[1:2], search_snapshot))
    assert second.startswith(second_alone)  # chances are those on the whole front, however little of it is shown
    assert third.split()[3:] == ["0.9000", "knee", "lr", "0.003"]
    assert all(len(line) <= 80 for line in (header, first, second, third))


def test_a_summary_says_how_certain_the_front_is(tmp_path):
    search_snapshot = small_search(tmp_path)
    lines = printed_lines(front_summary(search_snapshot))
    assert lines[1].split() == ["trial", "step", "parameters", "score", "90%", "front", "gain", "better", "settings"]
    certain = assess(search_snapshot).points
    smallest, largest = certain[1, 10, 40], certain[0, 10, 100]
    assert f"0.6000 {smallest.low:.3f}-{smallest.high:.3f}" in lines[2]
    assert lines[3].split()[5:8] == [f"{largest.on_front:.0%}", "+0.0100", f"{largest.better:.0%}"]
    text = " ".join(" ".join(lines).split())
    assert "over 1,000 resamples of the 400 validation examples" in text
    assert f"The knee is this point in {largest.knee:.0%} of the resamples; in 90% it has 100" in text
    assert f"expected to drop by {assess(search_snapshot).expected_drop:.4f} on new examples. With other seeds" in text
    (tmp_path / "predictions" / "1-10.npz").unlink()
    assert "1 point of the front without predictions" in "\n".join(
        printed_lines(front_summary(replace(search_snapshot)))
    )


def test_a_search_without_predictions_says_so():
    text = " ".join(printed_lines(front_summary(snapshot(THREE))))
    assert "No intervals: this search has no usable predictions on the validation examples." in text


def test_a_summary_counts_the_trials_and_mentions_the_baseline():
    trials = [
        trial(0, (100_000, 0.7), (100_000, 0.6)),
        trial(1, (200_000, 0.8), state="running"),
        trial(2, state="failed", reason="out of memory"),
        trial(3, (300_000, 0.6), state="pruned", reason="behind its peers"),
        trial(4, state="running"),
        trial(5, (100_000, 0.75), baseline=True, method="lora"),
    ]
    text = "\n".join(printed_lines(front_summary(snapshot(trials))))
    # of the box 1M wide and 0.5 high: 0.9 x 0.2 and 0.8 x 0.1 more; the baseline's: 0.9 x 0.25
    counts = "(trials: 1 complete, 1 pruned, 1 failed, 2 unfinished)"
    counts = f"2 points from 2 trials on the front, out of 4 evaluations {counts}; hypervolume 0.5200"
    assert counts in " ".join(text.split())
    assert "tuned in 1 further trial (" in " ".join(text.split()) and "hypervolume is 0.4500" in " ".join(text.split())
    assert "out of memory" in text and "behind its peers" not in text and "-0.0500" in text and "+0.0500" in text
    without_baseline = "\n".join(printed_lines(front_summary(snapshot(trials[:5]))))
    assert "gain" not in without_baseline and "(trials: 1 complete" in without_baseline


@pytest.mark.parametrize(
    "trials, limits, reason",
    [
        ([], {}, "no evaluation has a finite score (no trials)"),
        ([trial(0, state="running")], {}, "no evaluation has a finite score (1 unfinished)"),
        ([trial(0, (10, math.nan), state="failed", reason="diverged")], {}, "has a finite score (1 failed)"),
        ([trial(0, (10, 0.5))], {"max_params": 9}, "no evaluation is within the limits (1 complete)"),
    ],
)
def test_a_summary_without_a_front_gives_the_reason(trials, limits, reason):
    lines = printed_lines(front_summary(snapshot(trials, ObjectivesSpec(**limits))))
    assert lines[0].startswith("No front yet: ") and reason in lines[0] and len(lines) == 2 + len(trials)


def test_trials_table_gives_reasons_and_fits():
    trials = [
        trial(0, (9216, 0.7), (100, math.nan), seconds=60.0),
        trial(1, state="failed", reason="out of memory: 3.2 GB more were asked for than there are; " * 2),
        trial(2, (9216, 0.6), state="running", seconds=0.0),
    ]
    lines = printed_lines(trials_table(trials))
    assert lines[1].split() == ["0", "complete", "9.22k", "0.7000", "1m", "00s", "lr", "0.001"]
    assert "failed" in lines[2] and "out of memory" in lines[2]
    assert all(len(line) <= 80 for line in lines)


def test_no_points_no_rows():
    assert len(printed_lines(front_table([]))) == len(printed_lines(trials_table([]))) == 1


def test_rank_table_is_a_map_with_the_first_layer_at_the_bottom():
    ranks = {"h.0.attn.out": 12, "h.0.out": 0, "h.1.out": 3}
    assert printed_lines(rank_table(ranks)) == [
        "       attn.",
        "layer    out  out",
        "    1           3",
        "    0     12    0",
    ]


def test_wide_rank_table_keeps_all_numbers():
    ranks = {f"h.0.quite_a_long_name_{i}": 100 + i for i in range(12)}
    numbers = printed_lines(rank_table(ranks))[-1].split()
    assert numbers == ["0", *(str(100 + i) for i in range(12))]
