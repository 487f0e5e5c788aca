"""Replayed searches: replays of a table, a loop like Tune's, and a comparison with stock searches."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.spec import HalvingSpec, MethodSpec, SearchSpec, TaskSpec
from benchmarks.simulation.curves import Curves
from benchmarks.simulation.search import budget_grid, contender, cost_of, regrets
from benchmarks.simulation.simulator import SimulatedProgress, memory_journal, simulate
from benchmarks.simulation.warm_start import tables

TABLE = Path(__file__).parents[2] / "benchmarks" / "curves" / "sst2_lora_drop.jsonl"
SLICED = TABLE.with_name("sst2_lora_slices.jsonl")
SPACE = {
    "rank": {"type": "int", "low": 1, "high": 16, "log": True},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}


def line(rank, rate, *scores):
    """A trial evaluated every 10 steps, with 100 parameters a rank."""
    curve = [[10 * i, score, 100 * rank] for i, score in enumerate(scores, start=1)]
    return {"method": "lora", "drawn": {"rank": rank, "learning_rate": rate}, "curve": curve}


LINES = [line(1, 1e-3, 0.5, 0.6, 0.7), line(1, 1e-2, 0.5, 0.5, 0.5), line(16, 1e-3, 0.6, 0.7, 0.8)]


def table(lines):
    return Curves(lines, MethodSpec(method="lora", space=SPACE))


def test_settings_replay_the_nearest_trial_on_log_axes():
    curves = table([*LINES, line(4, 1e-3)])  # the last one never came to an evaluation
    queries = [(1, 3.1e-3), (1, 3.3e-3), (4, 1e-3), (5, 1e-3)]  # the middles: 3.16e-3, and rank 4, where the first wins
    assert curves.nearest(*({"rank": rank, "learning_rate": rate} for rank, rate in queries)) == [0, 1, 0, 2]


def test_any_two_choices_are_as_far_apart_as_the_ends_of_a_range():
    space = {"learning_rate": SPACE["learning_rate"], "targets": {"choices": ["query", "key", "all"]}}
    all_settings = [{"learning_rate": 1e-4, "targets": name} for name in ("query", "all")]
    lines = [{"method": "lora", "drawn": settings, "curve": [[1, 0.5, 9]]} for settings in all_settings]
    curves = Curves(lines, MethodSpec(method="lora", space=space))
    assert curves.nearest({"learning_rate": 1e-2, "targets": "all"}) == [1]
    assert sum((curves._positions[0] - curves._positions[1]) ** 2) == pytest.approx(1)


def test_a_replay_yields_the_recorded_evaluations():
    run = table(LINES).run({"rank": 16, "learning_rate": 1e-3})
    assert run.total_steps == 30
    assert [(e.step, e.score, e.adapter_params, run.step) for e in run] == [
        (10, 0.6, 1600, 10), (20, 0.7, 1600, 20), (30, 0.8, 1600, 30),
    ]  # fmt: skip


def test_a_diverged_trial_diverges_in_the_replay():
    run = table([*LINES, line(16, 1e-2, 0.5)]).run({"rank": 16, "learning_rate": 1e-2})
    assert next(run).step == 10
    with pytest.raises(AutorankError, match="diverged"):
        next(run)
    assert run.step == 20


def test_bounds_do_not_depend_on_the_learning_rate():
    curves = table([line(1, 1e-3, 0.5), line(2, 1e-2, 0.5), line(16, 1e-3, 0.5)])
    assert curves.bounds("lora", {"rank": 1, "learning_rate": 1e-3}) == (100, 200)
    assert curves.bounds("lora", {"rank": 1}) == (100, 200)
    assert curves.bounds("lora", {"rank": 16, "learning_rate": 1e-3}) == (1600, 1600)


def test_attainable_hypervolume_of_a_table():
    curves = table(LINES)
    assert curves.attainable == pytest.approx(0.7 * 1500 / 1600)


def test_a_table_has_trials_of_one_method():
    for lines in ([], [line(1, 1e-3)], [LINES[0], {**LINES[1], "method": "adalora"}]):
        with pytest.raises(AutorankError, match="one method"):
            table(lines)


class ListSearcher(Searcher):
    """Suggests the given settings, and records reported results."""

    def __init__(self, *settings):
        super().__init__()
        self.remaining, self.reported = list(settings), []

    def suggest(self, trial_id):
        return self.remaining.pop(0) if self.remaining else Searcher.FINISHED

    def on_trial_result(self, trial_id, result):
        self.reported.append((trial_id, result["evaluation"].step))

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.reported.append((trial_id, "failed" if "failed" in result else result["score"]))


def test_two_workers_take_turns_and_the_last_result_comes_with_the_end():
    searcher = ListSearcher(*(recorded["drawn"] for recorded in (LINES[0], LINES[2], LINES[1])))
    history = simulate(searcher, FIFOScheduler(), table(LINES), workers=2, budget=10**6)
    assert searcher.reported == [
        ("trial-0", 10), ("trial-1", 10), ("trial-0", 20), ("trial-1", 20), ("trial-0", 0.7), ("trial-1", 0.8),
        ("trial-2", 10), ("trial-2", 20), ("trial-2", 0.5),
    ]  # fmt: skip
    width = 1500 / 1600  # the part of the box beyond 100 parameters; nothing of it is beyond 1600
    areas = [(0, 0.0), (10, 0.5), (20, 0.5), (30, 0.6), (40, 0.6), (50, 0.7), (60, 0.7), (90, 0.7)]
    assert history == [SimulatedProgress(steps, pytest.approx(area * width)) for steps, area in areas]


def test_a_front_of_last_results_grows_when_trials_end():
    searcher = ListSearcher(*(recorded["drawn"] for recorded in (LINES[0], LINES[2])))
    history = simulate(searcher, FIFOScheduler(), table(LINES), workers=2, budget=10**6, last=True)
    area = pytest.approx(0.7 * 1500 / 1600)
    assert history == [
        SimulatedProgress(0, 0.0),
        SimulatedProgress(50, area),
        SimulatedProgress(60, area),
        SimulatedProgress(60, area),
    ]


def test_a_search_ends_with_its_budget_and_counts_what_diverges():
    searcher = ListSearcher(*4 * [{"rank": 16, "learning_rate": 1e-2}])
    history = simulate(searcher, FIFOScheduler(), table([*LINES, line(16, 1e-2, 0.5)]), workers=1, budget=50)
    assert searcher.reported[:2] == [("trial-0", 10), ("trial-0", "failed")]
    assert history[-1].cost == 50
    assert len(searcher.remaining) == 1


def test_the_real_searcher_stops_trials_and_its_errors_are_raised(monkeypatch):
    curves = Curves.read(TABLE)
    spec = SearchSpec(
        name="s", task=TaskSpec(name="recorded"), methods=(curves.entry,), halving=HalvingSpec(grace=2), seed=3
    )
    searcher = JournalSearcher(journal := memory_journal(spec, curves.reference), curves.bounds, trials=12)
    history = simulate(searcher, Scheduler(searcher), curves, workers=2, budget=10**6)
    trials = journal.trials()
    assert len(trials) == 12
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    assert all(trial.finished == (trial.state == "complete") for trial in trials)
    assert history[-1].cost == sum(trial.step for trial in trials)
    assert 0 < history[-1].hypervolume <= curves.attainable
    assert {point.trial for point in journal.snapshot().points} <= set(range(12))

    searcher = JournalSearcher(journal := memory_journal(spec, curves.reference), curves.bounds, trials=12)
    monkeypatch.setattr(journal, "record", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate(searcher, Scheduler(searcher), curves, workers=2, budget=10**6)


def test_equal_seeds_give_equal_searches():
    curves = Curves.read(TABLE)
    first, second = (simulate(*contender("tpe", curves, 1), curves, workers=2, budget=1000) for _ in range(2))
    assert first == second


def test_tpe_reaches_the_final_regret_of_stock_with_less_training():
    curves = Curves.read(TABLE)
    budgets = budget_grid(curves, 40)
    stock, stock_all, tpe = (
        np.array([regrets(name, curves, seed, 2, budget) for seed in range(10)])
        for name, budget in (
            ("stock", budgets),
            ("stock-all", budgets),
            ("tpe", budgets[: math.ceil(len(budgets) / 2) + 1]),
        )
    )
    assert np.all(stock_all <= stock)
    assert cost_of(float(np.median(stock[:, -1])), tpe, budgets) <= 0.5
    half = len(budgets) // 2
    assert np.median(tpe[:, half]) < np.median(stock_all[:, half])


def test_evaluations_and_slices_cost_a_third_of_training_and_slices_are_points():
    lines = [line(4, 1e-3, 0.6, 0.8) | {"evaluation_cost": 2.0}]
    lines[0]["curve"][1].append([[100, 0.7], [200, 0.75]])
    curves = table(lines)
    run = curves.run({"rank": 4, "learning_rate": 1e-3})
    assert [run.cost for _ in run] == [12, 28]  # 10 steps and an evaluation; 10 steps, an evaluation and two slices
    assert curves.trial_cost == 24
    settings = {"rank": 4, "learning_rate": 1e-3}
    history = simulate(ListSearcher(settings), FIFOScheduler(), curves, workers=1, budget=10**6)
    area = (0.7 * 100 + 0.75 * 200) / 400
    assert history[1:] == [
        SimulatedProgress(12, 0.0),
        SimulatedProgress(28, pytest.approx(area)),
        SimulatedProgress(28, pytest.approx(area)),
    ]
    assert curves.attainable == pytest.approx(area)
    history = simulate(ListSearcher(settings), FIFOScheduler(), curves, workers=1, budget=10**6, sliced=False)
    assert history[-1] == SimulatedProgress(24, 0.0)


@pytest.mark.parametrize("name", ["nsga2-all", "moasha"])
def test_other_schedulers_search_the_same_table_without_slices(name):
    if name == "moasha":
        pytest.importorskip("syne_tune")
    curves = Curves.read(TABLE)
    first, repeated = (regrets(name, curves, 3, 2, budget_grid(curves, 12)) for _ in range(2))
    assert first.tolist() == repeated.tolist()
    assert curves.attainable > first[1] > first[-1] >= 0


def test_a_warm_start_is_from_another_table_or_from_half_of_the_same():
    options = argparse.Namespace(curves=TABLE, earlier=None, method=None, first=None)
    earlier, new = tables(options, 0)
    assert len(earlier.curves) + len(new.curves) == len(Curves.read(TABLE).curves)
    earlier, new = tables(argparse.Namespace(curves=TABLE, earlier=SLICED, method=None, first=None), 0)
    assert (earlier.entry.method, new.entry.method) == ("lora", "lora-drop")
