"""Which trials the searcher stops, and what samplers learn from them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ray.tune.search import Searcher

from autorank.searching.create import open_journal
from autorank.searching.early_stopping.policy import StoppingPolicy
from autorank.searching.journal_searcher import JournalSearcher
from autorank.spec import HalvingSpec, ObjectivesSpec, TrainingSpec
from autorank.trials.record import TrialRecord
from autorank.trials.statistics.forecast import MIN_TRIALS
from tests.searching.fake_runs import bounds, search_spec
from tests.searching.searcher_driver import REFERENCE, goes_on, make_searcher, reopen, result, states
from tests.trials.trial_factories import evaluation, sliced


def trial_of_rank(number, rank):
    return TrialRecord(number, "lora", {"rank": rank, "learning_rate": 1e-3})


def first_trials(journal):
    """Begin a search and return its first trials."""
    searcher = make_searcher(journal)
    for name in "abcdef":
        searcher.suggest(name)
    return journal.trials()


def test_trials_over_a_limit_stop_and_beat_no_others(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(max_memory=100))
    with open_journal(spec, tmp_path / "limited", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        for name in "abcde":
            searcher.suggest(name)
            over = {"evaluation": evaluation(1, 1, 0.9, peak_memory=101), "finished": False}
            assert not goes_on(searcher, name, over)
            searcher.on_trial_complete(name, over)
        searcher.suggest("f")
        assert goes_on(searcher, "f", result(1, 0.5, params=64))
        assert states(journal)[0] == ("pruned", "over --max-memory with 101 bytes")


@pytest.mark.parametrize(("slices", "reason"), [("off", "over --max-params with 32"), ("auto", None)])
def test_an_adapter_over_the_limit_is_trained_if_its_slices_count(tmp_path, slices, reason):
    limits = ObjectivesSpec(max_params=10)
    spec = search_spec(objectives=limits, training=TrainingSpec(slices=slices), halving=HalvingSpec(grace=1))
    with open_journal(spec, tmp_path / "limited", lambda: REFERENCE) as journal:
        stopping = StoppingPolicy(spec, bounds, evaluations=9)
        trial = replace(trial_of_rank(0, rank=32), evaluations=(sliced(1, 32, 0.9, (8, 0.6)),))
        assert stopping.reason(trial, []) == reason
        assert any(bounds("lora", trial.settings)[0] > 10 for trial in first_trials(journal)) == (reason is None)


def test_slices_within_the_limit_decide_whether_a_trial_is_beaten():
    """The last trial has the best adapter, but that is over the limit, and its slices are beaten."""
    limits = ObjectivesSpec(max_params=10)
    spec = search_spec(objectives=limits, training=TrainingSpec(slices="auto"), halving=HalvingSpec(grace=1))
    stopping = StoppingPolicy(spec, bounds, evaluations=9)
    curves = [(0.6, (8, 0.7)), (0.6, (4, 0.6)), (0.9, (9, 0.5), (5, 0.4))]
    reasons = [
        stopping.reason(replace(trial_of_rank(number, rank=32), evaluations=(sliced(1, 32, score, *slices),)), [])
        for number, (score, *slices) in enumerate(curves)
    ]
    assert reasons == [None, None, "beaten"]


def test_with_a_third_objective_a_point_of_the_front_is_not_stopped(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third_objective="seconds"))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        continued = []
        for name, rank, score, seconds in zip("abc", (8, 1, 64), (0.8, 0.9, 0.7), (50.0, 60.0, 1.0), strict=True):
            searcher.suggest(name)
            tune_result = {"evaluation": evaluation(1, rank, score, seconds=seconds), "finished": False}
            continued.append(goes_on(searcher, name, tune_result))
        assert continued == [True, True, True]  # the last is beaten by score, but by far the quickest
        last = {"evaluation": evaluation(2, 64, 0.75, seconds=2.0), "finished": True}
        searcher.on_trial_complete("c", last)
        assert journal.trial(2).sampler_values == (0.0, 2.0)  # as large as the worst corner
        assert make_searcher(reopen(journal)).suggest("d")["number"] == 0


def test_a_trial_without_a_point_within_the_limits_is_learned_by_its_excess(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(min_score=0.8))
    with open_journal(spec, tmp_path / "limited", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        for name, score in zip("ab", (0.75, 0.85), strict=True):
            searcher.suggest(name)
            searcher.on_trial_complete(name, result(1, score, finished=True, params=32))
        assert journal.trial(0).sampler_values == (pytest.approx(-0.05),)
        assert journal.trial(1).sampler_values == (pytest.approx(0.85 / 2),)
        assert searcher._planner._studies["lora"]._study.best_trial.number == 1


def test_trial_cut_by_the_time_budget_is_learned_with_its_expected_score(tmp_path):
    with open_journal(search_spec(halving=None), tmp_path / "cut", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, deadline=time.monotonic() + 3600)
        searcher.suggest("a")
        searcher.on_trial_result("a", result(1, 0.5, params=1))
        searcher.on_trial_complete("a", result(2, 0.7, finished=True, params=1))
        searcher.suggest("b")
        searcher._deadline = time.monotonic()
        assert not goes_on(searcher, "b", result(1, 0.65, params=2))
        searcher.on_trial_complete("b", result(1, 0.65, params=2))
        assert journal.trial(1).reason == "time budget" and searcher.cut_off
        gain = 0.2 * 63 / 64  # trial 0's
        assert journal.trial(1).sampler_values == (pytest.approx(0.65 * 62 / 64 + gain),)


def test_a_stopped_trial_is_learned_with_its_expected_seconds(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third_objective="seconds"))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        for name in "ab":
            searcher.suggest(name)
            for step, seconds in ((1, 10.0), (2, 20.0), (3, 30.0)):
                latest = evaluation(step, 32, 0.6 + step / 10, seconds=seconds)
                searcher.on_trial_result(name, {"evaluation": latest, "finished": step == 3})
            searcher.on_trial_complete(name, {})
        searcher.suggest("c")
        slow = {"evaluation": evaluation(1, 32, 0.5, seconds=12.0), "finished": False}
        assert not goes_on(searcher, "c", slow)
        searcher.on_trial_complete("c", slow)
        assert journal.trial(2).sampler_values == (pytest.approx((0.5 + 0.2) / 2), pytest.approx(36.0))


def test_a_trial_that_has_left_the_front_can_be_stopped(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third_objective="seconds"), halving=HalvingSpec(grace=2))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, evaluations=9)
        for name in "abc":
            searcher.suggest(name)
            for step, seconds in ((1, 5.0), (2, 9.0)):
                latest = evaluation(step, 1, 0.9, seconds=seconds)
                assert goes_on(searcher, name, {"evaluation": latest, "finished": False})
        searcher.suggest("d")
        assert goes_on(searcher, "d", {"evaluation": evaluation(1, 1, 0.5, seconds=1.0), "finished": False})
        assert not goes_on(searcher, "d", {"evaluation": evaluation(2, 1, 0.5, seconds=9.0), "finished": False})


@pytest.mark.parametrize("stop_when_flat", [True, False])
def test_a_flat_search_starts_no_trial_with_stop_when_flat(tmp_path, stop_when_flat):
    with open_journal(search_spec(), tmp_path / "flat", lambda: REFERENCE) as journal:
        searcher = JournalSearcher(journal, bounds, 30, stop_when_flat=stop_when_flat)
        for number in range(9):
            if not isinstance(searcher.suggest(str(number)), dict):
                break
            searcher.on_trial_complete(str(number), result(1, 0.9, params=1) | {"finished": True})
        assert searcher.flat == stop_when_flat and searcher.has_work() != stop_when_flat and searcher.problem is None
        fixed = [trial.fixed for trial in journal.trials()]
        assert fixed[:2] == [True, True] and not any(fixed[2:])
        assert len(fixed) == (2 + MIN_TRIALS if stop_when_flat else 9)
        assert (searcher.suggest("more") == Searcher.FINISHED) == stop_when_flat
