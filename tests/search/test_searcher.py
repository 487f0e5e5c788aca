"""The searcher, driven as Tune drives it: every trial ends, and ends as what it was."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.results.journal import Journal
from autorank.search.opening import differences, first_settings, open_journal
from autorank.search.samplers import make_sampler
from autorank.search.searcher import JournalSearcher, ended
from autorank.spec import TaskSpec, TrainSpec
from tests.results.made_trials import evaluation
from tests.search.standin import search_spec

REFERENCE = (64.0, 0.0)


@pytest.fixture
def journal(tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: REFERENCE) as journal:
        yield journal


def result(step, score=0.8, finished=False):
    return {"evaluation": evaluation(step, 100, score), "finished": finished, "done": finished}


def states(journal):
    return [(trial.state, trial.reason) for trial in journal.trials()]


def test_a_trial_from_settings_to_complete(journal):
    seen = []
    searcher = JournalSearcher(journal, trials=2, on_evaluation=lambda trials: seen.append(len(trials[0].evaluations)))
    asked = searcher.suggest("a")
    assert asked["number"] == 0
    assert set(asked["settings"]) == {"rank", "learning_rate", "alpha", "dropout", "targets", "retrain"}
    searcher.on_trial_result("a", result(1))
    searcher.on_trial_complete("a", result(2, 0.9, finished=True))  # Tune gives the last one only here
    assert states(journal) == [("complete", None)]
    assert [e.step for e in journal.trials()[0].evaluations] == [1, 2]
    assert seen == [1, 2]
    assert journal.study.trials[0].values == [100.0, 0.9]


def test_a_search_starts_with_the_methods_defaults(journal):
    settings = JournalSearcher(journal, trials=1).suggest("a")["settings"]
    assert (settings["rank"], settings["learning_rate"]) == (8, 1e-3)
    narrow = search_spec(space={"rank": {"type": "int", "low": 9, "high": 16}})
    assert first_settings(narrow) == [{}, {"rank": 9}, {"rank": 16}]  # then the smallest and the largest adapter


def test_as_many_trials_as_asked_for_in_all(journal):
    searcher = JournalSearcher(journal, trials=2)
    for trial in "ab":
        assert searcher.suggest(trial) != Searcher.FINISHED
        searcher.on_trial_complete(trial, result(1, finished=True))
    assert searcher.suggest("c") == Searcher.FINISHED
    more = JournalSearcher(journal, trials=3)
    assert more.suggest("c")["number"] == 2
    assert more.suggest("d") == Searcher.FINISHED


def test_no_trial_is_left_running(journal):
    searcher = JournalSearcher(journal, trials=9)
    for name in "abcdef":
        searcher.suggest(name)
    searcher.on_trial_complete("a", result(1, float("nan"), finished=True))
    searcher.on_trial_complete("b", {"failed": "RuntimeError: no", "traceback": "", "done": True})
    searcher.reasons["c"] = "its process died"
    searcher.on_trial_complete("c", error=True)
    searcher.on_trial_complete("d", result(1))  # stopped by a scheduler
    searcher.on_trial_complete("e")  # stopped before its first result
    searcher.on_trial_complete("f", result(1, finished=True))
    assert states(journal) == [
        ("failed", "no evaluation with a finite score"),
        ("failed", "RuntimeError: no"),
        ("failed", "its process died"),
        ("pruned", "stopped"),
        ("pruned", "stopped"),
        ("complete", None),
    ]
    assert all(trial.state != TrialState.RUNNING for trial in journal.study.trials)


def test_after_the_deadline_nothing_starts_and_what_runs_is_pruned(journal):
    searcher = JournalSearcher(journal, trials=9, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher._deadline = time.monotonic()
    assert searcher.suggest("c") == Searcher.FINISHED
    searcher.on_trial_complete("a", result(1))
    searcher.on_trial_complete("b", result(3, finished=True))  # its last evaluation: complete all the same
    assert states(journal) == [("pruned", "time budget"), ("complete", None)]
    assert len(ended(journal.trials())) == 2


def test_an_error_in_the_journal_is_kept_and_ends_the_search(journal, monkeypatch):
    searcher = JournalSearcher(journal, trials=9)
    searcher.suggest("a")
    monkeypatch.setattr(journal, "record", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    searcher.on_trial_result("a", result(1))
    assert searcher.problem.errno == 28
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_full_disk_in_a_trial_ends_the_search(journal):
    searcher = JournalSearcher(journal, trials=9)
    searcher.suggest("a")
    failed = {"failed": "OSError: [Errno 28] No space left on device", "traceback": "", "done": True}
    searcher.on_trial_complete("a", failed)
    assert searcher.problem.errno == 28


def test_a_search_gives_up_when_nothing_but_one_failure_is_seen(journal):
    searcher = JournalSearcher(journal, trials=9)
    for name in "abc":
        assert searcher.problem is None
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": "OSError: no weights", "traceback": "", "done": True})
    assert isinstance(searcher.problem, AutorankError)
    assert "All 3 trials failed, for the same reason: OSError: no weights" in str(searcher.problem)


def test_different_failures_are_no_reason_to_give_up(journal):
    searcher = JournalSearcher(journal, trials=9)
    for name in "abcd":
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": f"diverged at {name}", "traceback": "", "done": True})
    assert searcher.problem is None


def settings_of(folder, trials):
    with open_journal(search_spec(), folder, lambda: REFERENCE) as journal:
        searcher = JournalSearcher(journal, trials)
        while (asked := searcher.suggest("t")) != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
            assert asked["settings"]
        return [tuple(sorted(trial.config.items())) for trial in journal.trials()]


def test_a_seed_repeats_a_search_and_going_on_repeats_nothing(tmp_path):
    first = settings_of(tmp_path / "one", 4)
    assert first == settings_of(tmp_path / "two", 4)
    assert len(set(settings_of(tmp_path / "one", 8))) == 8


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp", "random"])
def test_samplers(tmp_path, name):
    sampler = make_sampler(name, seed=1)
    with Journal.create(tmp_path / "s", search_spec(sampler=name), REFERENCE, sampler) as journal:
        searcher = JournalSearcher(journal, trials=3)
        for trial in "abc":
            assert 1 <= searcher.suggest(trial)["settings"]["rank"] <= 64
            searcher.on_trial_complete(trial, result(1, finished=True))
        assert len(ended(journal.trials())) == 3


def test_another_search_of_the_same_name_is_refused_with_what_differs(tmp_path):
    spec = search_spec()
    open_journal(spec, tmp_path / "s", lambda: REFERENCE).close()
    train = TrainSpec(task=TaskSpec(name="demo", max_length=64), method="lora", settings={"alpha": 8})
    other = spec.model_copy(update={"train": train, "seed": 3})
    assert differences(spec, other) == [
        "train.task.max_length: None there, 64 now",
        "train.settings.alpha: nothing there, 8 now",
        "seed: 0 there, 3 now",
    ]
    with pytest.raises(AutorankError, match=r"seed: 0 there, 3 now\n.*--name"):
        open_journal(other, tmp_path / "s", lambda: REFERENCE)


def test_interrupted_trials_do_not_count(journal):
    searcher = JournalSearcher(journal, trials=2)
    settings = searcher.suggest("a")["settings"]
    journal.recover()
    more = JournalSearcher(journal, trials=3)  # two first trials were waiting before
    assert [more.suggest(trial)["number"] for trial in "bcd"] == [1, 2, 3]
    assert journal.trials()[3].config == settings
    assert replace(journal.trials()[0]).reason == "interrupted"
