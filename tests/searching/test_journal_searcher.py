"""The searcher, driven as Tune does: every trial ends, in the right state."""

from __future__ import annotations

import time

import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.create import differences, open_journal
from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.retry_policy import Death
from autorank.spec import MethodSpec, ObjectivesSpec, TaskSpec
from autorank.trials.record import ended_trials
from tests.searching.fake_runs import SPACE, search_spec
from tests.searching.searcher_driver import REFERENCE, goes_on, make_searcher, result, states


def test_a_trial_from_its_start_to_complete(journal):
    counts = []
    searcher = make_searcher(journal, 2, on_evaluation=lambda: counts.append(len(journal.trial(0).evaluations)))
    suggestion = searcher.suggest("a")
    assert (suggestion["number"], suggestion["recorded"]) == (0, 0)
    train = suggestion["train"]
    assert (train.task.name, train.method) == ("demo", "lora")
    assert set(train.settings) == {"rank", "learning_rate", "alpha", "dropout", "targets", "retrain"}
    assert goes_on(searcher, "a", result(1, params=16))
    searcher.on_trial_result("a", result(1, params=16))  # Tune reports it twice
    searcher.on_trial_complete("a", result(2, 0.9, finished=True, params=16))  # and the last result only here
    assert states(journal) == [("complete", None)]
    assert [e.step for e in journal.trials()[0].evaluations] == [1, 2]
    assert counts == [1, 2, 2]
    assert journal.trial(0).sampler_values == (pytest.approx(0.9 * (64 - 16) / 64),)  # the area that it dominates


def test_a_search_starts_with_the_methods_defaults_and_its_smallest_adapter(journal):
    searcher = make_searcher(journal)
    settings = [searcher.suggest(trial)["train"].settings for trial in "ab"]
    assert [values["rank"] for values in settings] == [8, 1]
    assert [values["learning_rate"] for values in settings] == [1e-3] * 2


def test_the_requested_number_of_trials_in_total(journal):
    searcher = make_searcher(journal, 2)
    for trial in "ab":
        assert searcher.suggest(trial) != Searcher.FINISHED
        searcher.on_trial_complete(trial, result(1, finished=True))
    assert searcher.suggest("c") == Searcher.FINISHED
    extended = make_searcher(journal, 3)
    assert extended.suggest("c")["number"] == 2
    assert extended.suggest("d") is None  # the running trial may have to be retried
    extended.on_trial_complete("c", result(1, finished=True))
    assert extended.suggest("d") == Searcher.FINISHED


def test_no_trial_is_left_running(journal):
    searcher = make_searcher(journal, retries=0)
    for name in "abcdef":
        searcher.suggest(name)
    searcher.on_trial_complete("a", result(1, float("nan"), finished=True))
    searcher.on_trial_complete("b", {"failed": "RuntimeError: no", "traceback": "", "done": True})
    searcher.deaths["c"] = Death("its process crashed")
    searcher.on_trial_complete("c", error=True)
    searcher.on_trial_complete("d", result(1))  # stopped by something else
    searcher.on_trial_complete("e")  # before its first result
    searcher.on_trial_complete("f", result(1, finished=True))
    assert states(journal) == [
        ("failed", "no evaluation with a finite score"),
        ("failed", "RuntimeError: no"),
        ("failed", "its process crashed"),
        ("pruned", "stopped"),
        ("pruned", "stopped"),
        ("complete", None),
    ]


def test_after_the_deadline_nothing_starts_and_what_runs_is_pruned(journal):
    searcher = make_searcher(journal, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher._deadline = time.monotonic()
    assert searcher.suggest("c") == Searcher.FINISHED
    assert not goes_on(searcher, "a", result(1))
    searcher.on_trial_complete("a", result(1))
    searcher.on_trial_complete("b", result(3, finished=True))  # it was the last evaluation, so the trial is complete
    assert states(journal) == [("pruned", "time budget"), ("complete", None)]


# Settings of trials


def test_settings_are_tried_once_and_a_space_without_new_ones_ends_the_search(tmp_path):
    space = {"rank": {"type": "int", "low": 1, "high": 3}, "dropout": {"choices": [0.0, 0.1]}}
    spec = search_spec(methods=(MethodSpec(method="lora", space=space),))
    with open_journal(spec, tmp_path / "small", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, 50)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        assert searcher.exhausted and searcher.problem is None
        sampled = [tuple(trial.sampled.values()) for trial in journal.trials()]
    assert sorted(sampled) == sorted((rank, dropout) for rank in (1, 2, 3) for dropout in (0.0, 0.1))


def test_adapters_above_the_limit_are_not_trained(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(max_params=20))
    with open_journal(spec, tmp_path / "limited", lambda: (20.0, 0.0)) as journal:
        searcher = make_searcher(journal, 12)
        while (suggestion := searcher.suggest("t")) != Searcher.FINISHED:
            assert suggestion["train"].settings["rank"] <= 20
            searcher.on_trial_complete("t", result(1, finished=True))
        assert len(journal.trials()) == 12


def test_several_methods_share_a_search(tmp_path):
    methods = tuple(MethodSpec(method=name, space=SPACE) for name in ("lora-drop", "lora"))
    with open_journal(search_spec(methods=methods), tmp_path / "both", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, 12)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        assert [trial.method for trial in journal.trials()] == ["lora-drop", "lora"] * 6
        assert {"threshold"} <= set(journal.trial(0).settings) and "threshold" not in journal.trial(1).settings


def test_settings_that_a_method_refuses_fail_their_trial(tmp_path):
    space = {"rank": {"type": "int", "low": 0, "high": 1}, "learning_rate": SPACE["learning_rate"]}
    spec = search_spec(methods=(MethodSpec(method="lora", space=space),), sampler="random")
    ranks = lambda method, settings: (settings["rank"], settings["rank"])  # noqa: E731
    with open_journal(spec, tmp_path / "refused", lambda: REFERENCE) as journal:
        searcher = JournalSearcher(journal, ranks, 8)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        failed = [trial for trial in journal.trials() if trial.state == "failed"]
        assert failed and all("rank" in trial.reason and trial.settings["rank"] == 0 for trial in failed)


# Problems


def test_an_error_in_the_journal_is_stored_and_ends_the_search(journal, monkeypatch):
    searcher = make_searcher(journal)
    searcher.suggest("a")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "record", full)
    searcher.on_trial_result("a", result(1))
    assert searcher.problem.errno == 28
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_full_disk_in_a_trial_ends_the_search(journal):
    searcher = make_searcher(journal)
    searcher.suggest("a")
    failed = {"failed": "OSError: [Errno 28] No space left on device", "traceback": "", "done": True}
    searcher.on_trial_complete("a", failed)
    assert searcher.problem.errno == 28
    (trial,) = journal.trials()
    assert trial.state == "running"
    assert make_searcher(journal).suggest("b")["number"] == trial.number  # once there is space on the disk


def test_a_search_ends_when_all_trials_fail_for_the_same_reason(journal):
    searcher = make_searcher(journal)
    for name in "abc":
        assert searcher.problem is None
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": "OSError: no weights", "traceback": "", "done": True})
    assert isinstance(searcher.problem, AutorankError)
    assert "All 3 trials failed for the same reason: OSError: no weights" in str(searcher.problem)


def test_a_search_continues_when_trials_fail_for_different_reasons(journal):
    searcher = make_searcher(journal)
    for name in "abcd":
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": f"diverged at {name}", "traceback": "", "done": True})
    assert searcher.problem is None


def settings_of(folder, trials):
    with open_journal(search_spec(), folder, lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, trials)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        return [tuple(sorted(trial.settings.items())) for trial in journal.trials()]


def test_a_seed_repeats_a_search_and_a_continued_search_repeats_no_settings(tmp_path):
    first = settings_of(tmp_path / "one", 4)
    assert first == settings_of(tmp_path / "two", 4)
    assert len(set(settings_of(tmp_path / "one", 8))) == 8


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp", "random"])
def test_samplers(tmp_path, name):
    with open_journal(search_spec(sampler=name), tmp_path / "s", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal, 14)
        for trial in map(str, range(14)):
            settings = searcher.suggest(trial)["train"].settings
            assert 1 <= settings["rank"] <= 64
            searcher.on_trial_complete(trial, result(1, 0.5 + settings["rank"] / 200, finished=True))
        assert len(ended_trials(journal.trials())) == 14


def test_another_search_of_the_same_name_is_refused_and_the_differences_are_listed(tmp_path):
    spec = search_spec()
    open_journal(spec, tmp_path / "s", lambda: REFERENCE).close()
    method = MethodSpec(method="lora", settings={"alpha": 8}, space=SPACE)
    changed = search_spec(task=TaskSpec(name="demo", max_length=64), methods=(method,), seed=3)
    assert differences(spec, changed) == [
        "task.max_length: was None, now 64",
        "methods.lora.settings.alpha: was not set, now 8",
        "seed: was 0, now 3",
    ]
    with pytest.raises(AutorankError, match=r"seed: was 0, now 3\n.*--name"):
        open_journal(changed, tmp_path / "s", lambda: REFERENCE)
