"""Two fronts small enough to be compared by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from autorank.errors import AutorankError
from autorank.reporting import compare
from autorank.reporting.html import comparison
from autorank.reporting.search_results import SearchResults
from autorank.spec import TaskSpec
from tests.reporting.html.page_reader import Page
from tests.rich_text import printed_lines
from tests.trials.searches_with_predictions import model, search_with_predictions
from tests.trials.trial_factories import search, snapshot, trial

LOG = math.log10


def search_results(name, *trials, reference=(1000.0, 0.0), **values):
    return SearchResults(search(name=name, **values), snapshot(trials, reference=reference))


@pytest.fixture
def first():
    return search_results("first", trial(0, (100, 0.6)), trial(1, (400, 0.8)), trial(2, (300, 0.9), baseline=True))


@pytest.fixture
def second():
    return search_results("second", trial(0, (200, 0.7)), trial(1, (500, 0.75)), reference=(800.0, 0.1))


def test_comparison_equals_a_computation_by_hand(first, second):
    first_row, second_row = compare.compare([first, second])
    # in the box of 1000 parameters and score 0 to 1: the baseline is left out
    assert first_row.hypervolume == pytest.approx(0.9 * 0.6 + 0.6 * 0.2)
    assert second_row.hypervolume == pytest.approx(0.8 * 0.7 + 0.5 * 0.05)
    assert second_row.ratio == pytest.approx(0.585 / 0.66)
    # from 200 parameters, where both have begun: +0.1 up to 400, then -0.1, and at 500 -0.05
    assert (second_row.gain, second_row.gain_at, second_row.lowest, second_row.highest) == (
        pytest.approx(0.1),
        200,
        200,
        500,
    )
    assert second_row.mean_gain == pytest.approx((0.1 * LOG(2) - 0.1 * LOG(500 / 400)) / LOG(500 / 200))
    assert (first_row.trials, first_row.points, first_row.smallest, first_row.best) == (3, 2, 100, 0.8)
    assert first_row.ratio is None and first_row.gain is None


def test_searches_between_which_the_data_have_changed_are_refused(first, second):
    versions = [replace(first, data={"digest": "a"}), replace(second, data={"digest": "b"})]
    with pytest.raises(AutorankError, match="the files of demo have changed in between"):
        compare.compare(versions)
    other_model = replace(versions[1], spec=second.spec.model_copy(update={"model": "other"}))  # and its tokenizer
    assert len(compare.compare([versions[0], other_model])) == 2


def test_reversed_comparison_inverts_ratio_and_gains(first, second):
    (_, forward), (_, reverse) = compare.compare([first, second]), compare.compare([second, first])
    assert forward.ratio * reverse.ratio == pytest.approx(1) and forward.mean_gain == pytest.approx(-reverse.mean_gain)
    assert (reverse.gain, reverse.gain_at) == (pytest.approx(0.1), 400)


def test_a_bootstrap_draws_trials(first):
    hypervolumes = compare.bootstrap_hypervolumes(first, (1000.0, 0.0), 0, draws=20_000)
    both_trials, first_twice, second_twice = (
        0.66,
        0.9 * 0.6,
        0.6 * 0.8,
    )  # a draw of two trials has one of them twice in half of the cases
    shares = [np.isclose(hypervolumes, hypervolume).mean() for hypervolume in (both_trials, first_twice, second_twice)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.015)


def test_the_interval_is_that_of_the_draws(first, second):
    _, row = compare.compare([first, second])
    # nine equally weighted cases at most: the extremes are the worst over the best, each with probability 1/16 or 1/8
    possible = sorted(b / a for a in (0.66, 0.54, 0.48) for b in (0.585, 0.56, 0.375))
    assert row.low == pytest.approx(possible[0]) and row.high == pytest.approx(possible[-1])
    assert compare.compare([first, second])[1] == row


def test_with_one_trial_nothing_is_uncertain():
    _, row = compare.compare([search_results("a", trial(0, (100, 0.5))), search_results("b", trial(0, (100, 0.6)))])
    assert row.low == row.high == pytest.approx(1.2) == row.ratio
    assert (row.gain, row.gain_at, row.mean_gain) == (pytest.approx(0.1), 100, pytest.approx(0.1))


def test_fronts_that_do_not_overlap_are_compared_where_both_have_begun():
    small_adapters = search_results("small", trial(0, (100, 0.5)), trial(1, (200, 0.6)))
    large_adapters = search_results("large", trial(0, (400, 0.7)), trial(1, (800, 0.9)))
    _, row = compare.compare([small_adapters, large_adapters])
    assert (row.lowest, row.highest, row.gain, row.gain_at) == (400, 800, pytest.approx(0.3), 800)
    assert row.mean_gain == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("task", "difference"),
    [
        ({"name": "sst2"}, "name: demo and sst2"),
        ({"name": "demo", "tune_split": 0.1}, "tune_split: 0.0 and 0.1"),
        ({"name": "demo", "max_eval_examples": 50}, "max_eval_examples: None and 50"),
        ({"name": "demo", "metric": "f1"}, "metric: None and f1"),
        ({"name": "demo", "data": "/elsewhere"}, "data: None and /elsewhere"),
        ({"name": "demo", "eval_split": "test"}, "eval_split: None and test"),
        ({"name": "demo", "label_type": "number"}, "label_type: None and number"),
    ],
)
def test_searches_on_different_data_are_refused(first, task, difference):
    with pytest.raises(AutorankError, match="first and other were not scored on the same data") as error:
        compare.compare([first, search_results("other", trial(0, (100, 0.5)), task=TaskSpec(**task))])
    assert difference in str(error.value)


def test_training_data_matter_where_a_part_is_held_out():
    tasks = [TaskSpec(name="demo", tune_split=s, max_train_examples=n) for s in (0.0, 0.1) for n in (None, 100)]
    searches = [search_results(f"s{i}", trial(0, (100, 0.5)), task=task) for i, task in enumerate(tasks)]
    compare.check_comparable(searches[:2])
    with pytest.raises(AutorankError, match="max_train_examples: None and 100"):
        compare.check_comparable(searches[2:])


def test_incomparable_searches_are_refused_with_the_reason(first):
    with pytest.raises(AutorankError, match="Name at least two searches"):
        compare.compare([first])
    with pytest.raises(AutorankError, match="empty has no front yet"):
        compare.compare([first, search_results("empty", trial(0, state="failed"))])


def test_comparison_as_text(first, second):
    rows = compare.compare([first, second])
    lines = [line.split() for line in printed_lines(compare.as_table(rows))]
    assert lines[1] == ["first", "3", "0.6600"]
    assert lines[2][:4] == ["second", "2", "0.5850", "0.89"] and lines[2][-4:] == ["+0.100", "at", "200", "+0.051"]
    assert [row["name"] for row in json.loads(compare.as_json(rows))] == ["first", "second"]
    first_row, second_row = csv.DictReader(io.StringIO(compare.as_csv(rows)))
    assert (
        first_row["ratio"] == ""
        and float(second_row["ratio"]) == rows[1].ratio
        and second_row["methods"] == "lora-drop"
    )


def test_comparison_as_a_page(first, second):
    import plotly.graph_objects as go

    page = Page(comparison.render_comparison([first, second], compare.compare([first, second])))
    assert [row[0] for row in page.tables["compare-table"]] == ["search", "first", "second"]
    figure = page.data["figures"]["front"]
    go.Figure(figure)
    stairs = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    assert [(t["name"], t["x"], t["y"]) for t in stairs] == [
        ("first", [100, 400, 500], [0.6, 0.8, 0.8]), ("second", [200, 500, 500], [0.7, 0.75, 0.75]),
    ]  # fmt: skip


def test_the_largest_gain_is_paired_over_examples(tmp_path):
    """The second's best makes no mistake that the first's does not make, so it is better on nearly all resamples."""
    first = search_with_predictions(tmp_path / "a", [trial(0, (100, 0.6))], {0: model(0.6)})
    second = search_with_predictions(tmp_path / "b", [trial(0, (100, 0.62))], {0: model(0.62)})
    searches = [
        SearchResults(search(name=name), search_snapshot) for name, search_snapshot in (("a", first), ("b", second))
    ]
    _, row = compare.compare(searches)
    assert row.better == pytest.approx(1 - math.exp(-8), abs=0.005)  # 8 of 400 examples decide
    assert 0.005 < row.gain_low < 0.02 < row.gain_high < 0.035
    assert compare.cells(row)[3] == f"+0.020 at 100 ({row.better:.0%})"
    searches[0] = SearchResults(search(name="a"), snapshot([trial(0, (100, 0.6))]))
    assert compare.compare(searches)[1].better is None
