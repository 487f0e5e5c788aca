"""The searcher, driven as Tune drives it: every trial ends, and ends as what it was."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.results.journal import Journal
from autorank.search.opening import differences, open_journal
from autorank.search.searcher import JournalSearcher, ended
from autorank.search.source import Death
from autorank.spec import HalvingSpec, MethodSpec, ObjectivesSpec, TaskSpec, TrainingSpec, TrainSpec
from tests.results.made_trials import evaluation
from tests.search.standin import SPACE, bounds, search_spec

REFERENCE = (64.0, 0.0)
TRIALS = 14
MEMORY = {"failed": "out of memory", "traceback": "", "out_of_memory": True, "done": True}


@pytest.fixture
def journal(tmp_path):
    with open_journal(search_spec(), tmp_path / "standin", lambda: REFERENCE) as journal:
        yield journal


def searching(journal, trials=9, **given):
    return JournalSearcher(journal, bounds, trials, **given)


def result(step, score=0.8, finished=False, params=100):
    return {"evaluation": evaluation(step, params, score), "finished": finished, "done": finished}


def states(journal):
    return [(trial.state, trial.reason) for trial in journal.trials()]


def test_a_trial_from_settings_to_complete(journal):
    seen = []
    searcher = searching(journal, 2, on_evaluation=lambda: seen.append(len(journal.trial(0).evaluations)))
    asked = searcher.suggest("a")
    assert (asked["number"], asked["recorded"]) == (0, 0)
    train = TrainSpec.model_validate(asked["train"])
    assert (train.task.name, train.method) == ("demo", "lora")
    assert set(train.settings) == {"rank", "learning_rate", "alpha", "dropout", "targets", "retrain"}
    assert searcher.goes_on("a", result(1))
    searcher.on_trial_result("a", result(1))  # Tune gives it once more
    searcher.on_trial_complete("a", result(2, 0.9, finished=True))  # and the last one only here
    assert states(journal) == [("complete", None)]
    assert [e.step for e in journal.trials()[0].evaluations] == [1, 2]
    assert seen == [1, 2, 2]
    assert journal.trial(0).told == (100.0, 0.9)


def test_a_search_starts_with_the_methods_defaults_and_its_smallest_adapter(journal):
    searcher = searching(journal)
    settings = [searcher.suggest(trial)["train"]["settings"] for trial in "ab"]
    assert [each["rank"] for each in settings] == [8, 1]
    assert [each["learning_rate"] for each in settings] == [1e-3] * 2


def test_as_many_trials_as_asked_for_in_all(journal):
    searcher = searching(journal, 2)
    for trial in "ab":
        assert searcher.suggest(trial) != Searcher.FINISHED
        searcher.on_trial_complete(trial, result(1, finished=True))
    assert searcher.suggest("c") == Searcher.FINISHED
    more = searching(journal, 3)
    assert more.suggest("c")["number"] == 2
    assert more.suggest("d") is None  # the one at work may have to be tried again
    more.on_trial_complete("c", result(1, finished=True))
    assert more.suggest("d") == Searcher.FINISHED


def test_no_trial_is_left_running(journal):
    searcher = searching(journal, retries=0)
    for name in "abcdef":
        searcher.suggest(name)
    searcher.on_trial_complete("a", result(1, float("nan"), finished=True))
    searcher.on_trial_complete("b", {"failed": "RuntimeError: no", "traceback": "", "done": True})
    searcher.deaths["c"] = Death("its process crashed")
    searcher.on_trial_complete("c", error=True)
    searcher.on_trial_complete("d", result(1))  # stopped by somebody else
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
    searcher = searching(journal, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher._deadline = time.monotonic()
    assert searcher.suggest("c") == Searcher.FINISHED
    assert not searcher.goes_on("a", result(1))
    searcher.on_trial_complete("a", result(1))
    searcher.on_trial_complete("b", result(3, finished=True))  # its last evaluation: complete all the same
    assert states(journal) == [("pruned", "time budget"), ("complete", None)]


# Going on


def reopened(journal):
    journal.close()
    return Journal.open(journal.folder, write=True)


def test_trials_cut_off_go_on_first_from_their_last_evaluation(journal):
    searcher = searching(journal)
    asked = [searcher.suggest(name) for name in "abc"]
    searcher.on_trial_result("a", result(1))
    searcher.on_trial_complete("b", result(1, finished=True))
    with reopened(journal) as again:
        more = searching(again)
        assert more.suggest("d") == asked[0] | {"recorded": 1}
        assert more.suggest("e") == asked[2]
        assert more.suggest("f")["number"] == 3


def test_a_trial_cut_off_after_its_last_evaluation_is_complete(journal):
    searcher = searching(journal)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(3, finished=True))
    with reopened(journal) as again:
        assert searching(again).suggest("b")["number"] == 1
        assert states(again)[0] == ("complete", None)


def test_a_decision_is_made_once(journal):
    """A trial that was told to stop is stopped when the search goes on; one that was told to go on goes on, whatever
    came to its rung since."""
    before = searching(journal)
    for name, score in zip("abc", (0.9, 0.8, 0.7), strict=True):  # ranks 8, 1 and 64: the last one is beaten
        before.suggest(name)
        before.on_trial_result(name, result(1, score))
    with reopened(journal) as again:
        searcher = searching(again)
        assert [searcher.suggest(name)["number"] for name in "def"] == [0, 1, 3]
        assert states(again)[2] == ("pruned", "beaten")
        for name, score in zip("ghij", (0.99, 0.98, 0.97, 0.96), strict=True):
            searcher.suggest(name)
            searcher.on_trial_result(name, result(1, score, params=1))
    with reopened(again) as later:
        assert searching(later).suggest("k")["number"] == 0


def test_a_dead_process_is_tried_again_and_a_lost_node_does_not_count(journal):
    searcher = searching(journal, 1, retries=1)
    asked = searcher.suggest("a")
    lost = Death("its node went away", preempted=True)
    for step, (name, death) in enumerate({"a": lost, "b": lost, "c": Death("crashed")}.items(), start=1):
        searcher.on_trial_result(name, result(step))
        searcher.deaths[name] = death
        searcher.on_trial_complete(name, error=True)
        assert searcher.suggest(chr(ord(name) + 1)) == asked | {"recorded": step}
    searcher.deaths["d"] = Death("crashed again")
    searcher.on_trial_complete("d", error=True)
    assert states(journal) == [("failed", "crashed again")] and searcher.suggest("e") == Searcher.FINISHED


def test_out_of_memory_is_tried_once_alone_with_half_the_micro_batch(journal):
    searcher = searching(journal)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", MEMORY)
    assert searcher.suggest("c") is None  # until b has ended
    searcher.on_trial_complete("b", result(1, finished=True))
    again = searcher.suggest("c")
    assert again["number"] == 0 and again["train"]["training"]["accumulate"] == 2
    assert searcher.suggest("d") is None
    searcher.on_trial_complete("c", MEMORY)
    assert states(journal)[0] == ("failed", "out of memory")
    assert searcher.suggest("d")["number"] == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_search_cut_off_anywhere_is_the_one_that_never_was(tmp_path, sampler):
    """Killed after any of its writes and gone on with, a search ends with the same trials."""

    def work(journal, writes=10**9):
        """One trial after another, as the settings have it; gives up after so many evaluations."""
        searcher = searching(journal, TRIALS)
        while (asked := searcher.suggest("t")) != Searcher.FINISHED:
            settings = asked["train"]["settings"]
            for step in range(asked["recorded"] + 1, 4):
                if (writes := writes - 1) < 0:
                    return
                score = 0.5 + settings["rank"] / 1000 - abs(settings["learning_rate"] - 3e-3) * 10 + step / 100
                told = result(step, score, step == 3, params=settings["rank"])
                if step < 3 and not searcher.goes_on("t", told):
                    break
            searcher.on_trial_complete("t", told)

    def essence(journal):
        return [
            replace(t, started=0.0, ended=0.0, seconds=0.0) for t in journal.trials()
        ]

    spec = search_spec(sampler=sampler)
    with open_journal(spec, tmp_path / "whole", lambda: REFERENCE) as journal:
        work(journal)
        whole = essence(journal)
    assert {"pruned", "complete"} == {trial.state for trial in whole}
    for every in (1, 2, 5):
        for _ in range(100):
            with open_journal(spec, tmp_path / f"cut-{every}", lambda: REFERENCE) as journal:
                work(journal, every)
                if len(journal.trials()) == TRIALS and all(trial.state != "running" for trial in journal.trials()):
                    break
        assert essence(journal) == whole


@pytest.mark.parametrize(("batch", "before", "after"), [(12, 1, 2), (12, 4, 12), (10, 2, 5), (15, 1, 3)])
def test_micro_batches_of_one_size_are_half_as_large_or_less(tmp_path, batch, before, after):
    spec = search_spec(training=TrainingSpec(batch_size=batch, accumulate=before))
    with open_journal(spec, tmp_path / "uneven", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        searcher.suggest("a")
        searcher.on_trial_complete("a", MEMORY)
        assert searcher.suggest("b")["train"]["training"]["accumulate"] == after


def test_micro_batches_of_one_cannot_be_halved_and_fail_with_their_reason(tmp_path):
    spec = search_spec(training=TrainingSpec(batch_size=5, accumulate=5))
    with open_journal(spec, tmp_path / "ones", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        searcher.suggest("a")
        searcher.on_trial_complete("a", MEMORY)
        assert states(journal) == [("failed", "out of memory")]


def test_a_node_that_goes_away_again_at_once_counts(journal):
    searcher = searching(journal, 1, retries=0)
    for name in "ab":
        searcher.suggest(name)
        searcher.deaths[name] = Death("its node went away", preempted=True)
        searcher.on_trial_complete(name, error=True)
    assert states(journal) == [("failed", "its node went away")]


ASTRAY = Death("Not all nodes of the cluster share /runs: 10.0.0.7 does not see it.", astray=True)


def lose(searcher, name, death=ASTRAY):
    """The trial's process dies so."""
    searcher.deaths[name] = death
    searcher.on_trial_complete(name, error=True)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_node_that_does_not_see_the_folder_ends_no_trials_elsewhere(journal, retries):
    """It ends what it gets in seconds, so it gets the next. Once it has had too many, it gets none until the trial that
    is at work elsewhere evaluates or ends, and then as many again."""
    searcher = searching(journal, 3, retries=retries)
    assert searcher.suggest("fine")["number"] == 0
    ways = [
        lambda: searcher.on_trial_result("fine", result(1)),
        lambda: searcher.on_trial_result("fine", result(2)),
        lambda: searcher.on_trial_complete("fine", {"failed": "diverged", "traceback": "", "done": True}),
    ]
    for way in ways:
        for i in range(retries + 1):
            assert searcher.suggest(str(i))["number"] == 1
            lose(searcher, str(i))
        assert searcher.suggest("held") is None and searcher.problem is None
        way()
    assert searcher.suggest("there")["number"] == 1  # where the other one was
    assert searcher.suggest("fine")["number"] == 2
    searcher.on_trial_complete("there", result(3, finished=True))
    lose(searcher, "fine", Death("crashed"))
    assert [trial.state for trial in journal.trials()] == ["failed", "complete", "running" if retries else "failed"]
    assert journal.trial(1).retries == 0 and searcher.problem is None


def test_a_search_ends_where_all_nodes_lack_its_folder(journal):
    """With several at once, and none of them a failure: they go on when the search does."""
    searcher = searching(journal, 3, retries=1)
    for name in "ab":
        searcher.suggest(name)
    lose(searcher, "a")
    assert searcher.suggest("a")["number"] == 0
    lose(searcher, "a")
    assert searcher.suggest("a") is None and searcher.problem is None  # b may be elsewhere
    lose(searcher, "b")
    assert isinstance(searcher.problem, AutorankError) and "10.0.0.7" in str(searcher.problem)
    assert states(journal) == [("running", None)] * 2 and journal.trial(1).retries == 0
    with reopened(journal) as later:
        assert [searching(later).suggest("x")["number"]] == [0]


def test_a_trial_that_dies_after_the_deadline_is_pruned(journal):
    searcher = searching(journal, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher._deadline = time.monotonic()
    searcher.on_trial_complete("a", error=True)
    assert states(journal) == [("pruned", "time budget")]


# What stops, and what is learnt of it


def test_what_is_over_a_limit_stops_at_once_and_beats_nobody(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(max_memory=100))
    with open_journal(spec, tmp_path / "limited", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        for name in "abcde":
            searcher.suggest(name)
            over = {"evaluation": evaluation(1, 1, 0.9, peak_memory=101), "finished": False}
            assert not searcher.goes_on(name, over)
            searcher.on_trial_complete(name, over)
        searcher.suggest("f")
        assert searcher.goes_on("f", result(1, 0.5, params=64))
        assert states(journal)[0] == ("pruned", "over --max-memory with 101 bytes")


def test_with_a_third_objective_a_point_of_the_front_is_not_stopped(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third="seconds"))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        going = []
        for name, rank, score, seconds in zip("abc", (8, 1, 64), (0.8, 0.9, 0.7), (50.0, 60.0, 1.0), strict=True):
            searcher.suggest(name)
            told = {"evaluation": evaluation(1, rank, score, seconds=seconds), "finished": False}
            going.append(searcher.goes_on(name, told))
        assert going == [True, True, True]  # the last is beaten by score, but by far the quickest
        last = {"evaluation": evaluation(2, 64, 0.75, seconds=2.0), "finished": True}
        searcher.on_trial_complete("c", last)
        assert journal.trial(2).told == (64.0, 0.75, 2.0)
        assert searching(reopened(journal)).suggest("d")["number"] == 0


def test_limits_are_learnt_by_what_a_stopped_trial_was_to_reach(tmp_path):
    """Stopped with too low a score, expected to reach enough: no sampler learns that it broke the limit."""
    spec = search_spec(objectives=ObjectivesSpec(min_score=0.8))
    with open_journal(spec, tmp_path / "limited", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        for name, score in zip("ab", (0.80, 0.82), strict=True):
            searcher.suggest(name)
            searcher.on_trial_result(name, result(1, score))
            searcher.on_trial_complete(name, result(2, score + 0.1, finished=True))
        searcher.suggest("c")
        assert not searcher.goes_on("c", result(1, 0.75))
        searcher.on_trial_complete("c", result(1, 0.75))
        assert journal.trial(2).told == (journal.trial(2).config["rank"], pytest.approx(0.85))
        study = searcher._planner._proposals["lora"]._study
        assert study.trials[2].constraints == {"min_score": pytest.approx(-0.05)}


def test_a_trial_that_time_cut_off_was_not_beaten_and_is_learnt_with_all_it_was_to_gain(tmp_path):
    with open_journal(search_spec(halving=None), tmp_path / "cut", lambda: REFERENCE) as journal:
        searcher = searching(journal, deadline=time.monotonic() + 3600)
        searcher.suggest("a")
        searcher.on_trial_result("a", result(1, 0.5, params=1))
        searcher.on_trial_complete("a", result(2, 0.7, finished=True, params=1))
        searcher.suggest("b")
        searcher._deadline = time.monotonic()
        assert not searcher.goes_on("b", result(1, 0.65, params=2))
        searcher.on_trial_complete("b", result(1, 0.65, params=2))
        assert journal.trial(1).reason == "time budget" and searcher.cut_off
        assert journal.trial(1).told[1] == pytest.approx(0.85)


def test_a_stopped_trial_is_learnt_with_the_seconds_that_it_was_to_take(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third="seconds"))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        for name in "ab":
            searcher.suggest(name)
            for step, seconds in ((1, 10.0), (2, 20.0), (3, 30.0)):
                told = evaluation(step, 64, 0.6 + step / 10, seconds=seconds)
                searcher.on_trial_result(name, {"evaluation": told, "finished": step == 3})
            searcher.on_trial_complete(name, {})
        searcher.suggest("c")
        slow = {"evaluation": evaluation(1, 64, 0.5, seconds=12.0), "finished": False}
        assert not searcher.goes_on("c", slow)
        searcher.on_trial_complete("c", slow)
        rank = journal.trial(2).config["rank"]
        assert journal.trial(2).told == (rank, pytest.approx(0.7), pytest.approx(36.0))


def test_being_on_the_front_once_does_not_spare_a_trial_for_good(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(third="seconds"), halving=HalvingSpec(grace=2))
    with open_journal(spec, tmp_path / "third", lambda: REFERENCE) as journal:
        searcher = searching(journal, evaluations=9)
        for name in "abc":
            searcher.suggest(name)
            for step, seconds in ((1, 5.0), (2, 9.0)):
                told = evaluation(step, 1, 0.9, seconds=seconds)
                assert searcher.goes_on(name, {"evaluation": told, "finished": False})
        searcher.suggest("d")
        assert searcher.goes_on("d", {"evaluation": evaluation(1, 1, 0.5, seconds=1.0), "finished": False})
        assert not searcher.goes_on("d", {"evaluation": evaluation(2, 1, 0.5, seconds=9.0), "finished": False})


# What is tried


def test_settings_are_tried_once_and_a_space_without_new_ones_ends_the_search(tmp_path):
    space = {"rank": {"type": "int", "low": 1, "high": 3}, "dropout": {"choices": [0.0, 0.1]}}
    spec = search_spec(methods=(MethodSpec(method="lora", space=space),))
    with open_journal(spec, tmp_path / "small", lambda: REFERENCE) as journal:
        searcher = searching(journal, 50)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        assert searcher.exhausted and searcher.problem is None
        drawn = [tuple(trial.drawn.values()) for trial in journal.trials()]
    assert sorted(drawn) == sorted((rank, dropout) for rank in (1, 2, 3) for dropout in (0.0, 0.1))


def test_adapters_above_the_limit_are_not_trained(tmp_path):
    spec = search_spec(objectives=ObjectivesSpec(max_params=20))
    with open_journal(spec, tmp_path / "limited", lambda: (20.0, 0.0)) as journal:
        searcher = searching(journal, 12)
        while (asked := searcher.suggest("t")) != Searcher.FINISHED:
            assert asked["train"]["settings"]["rank"] <= 20
            searcher.on_trial_complete("t", result(1, finished=True))
        assert len(journal.trials()) == 12


def test_several_methods_share_a_search(tmp_path):
    methods = tuple(MethodSpec(method=name, space=SPACE) for name in ("lora-drop", "lora"))
    with open_journal(search_spec(methods=methods), tmp_path / "both", lambda: REFERENCE) as journal:
        searcher = searching(journal, 12)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        assert [trial.method for trial in journal.trials()] == ["lora-drop", "lora"] * 6
        assert {"threshold"} <= set(journal.trial(0).config) and "threshold" not in journal.trial(1).config


def test_settings_that_a_method_refuses_fail_their_trial(tmp_path):
    space = {"rank": {"type": "int", "low": 0, "high": 1}, "learning_rate": SPACE["learning_rate"]}
    spec = search_spec(methods=(MethodSpec(method="lora", space=space),), sampler="random")
    ranks = lambda method, settings: (settings["rank"], settings["rank"])  # noqa: E731
    with open_journal(spec, tmp_path / "refused", lambda: REFERENCE) as journal:
        searcher = JournalSearcher(journal, ranks, 8)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        failed = [trial for trial in journal.trials() if trial.state == "failed"]
        assert failed and all("rank" in trial.reason and trial.config["rank"] == 0 for trial in failed)


# Problems


def test_an_error_in_the_journal_is_kept_and_ends_the_search(journal, monkeypatch):
    searcher = searching(journal)
    searcher.suggest("a")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "record", full)
    searcher.on_trial_result("a", result(1))
    assert searcher.problem.errno == 28
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_full_disk_in_a_trial_ends_the_search(journal):
    searcher = searching(journal)
    searcher.suggest("a")
    failed = {"failed": "OSError: [Errno 28] No space left on device", "traceback": "", "done": True}
    searcher.on_trial_complete("a", failed)
    assert searcher.problem.errno == 28


def test_a_search_gives_up_when_nothing_but_one_failure_is_seen(journal):
    searcher = searching(journal)
    for name in "abc":
        assert searcher.problem is None
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": "OSError: no weights", "traceback": "", "done": True})
    assert isinstance(searcher.problem, AutorankError)
    assert "All 3 trials failed, for the same reason: OSError: no weights" in str(searcher.problem)


def test_different_failures_are_no_reason_to_give_up(journal):
    searcher = searching(journal)
    for name in "abcd":
        searcher.suggest(name)
        searcher.on_trial_complete(name, {"failed": f"diverged at {name}", "traceback": "", "done": True})
    assert searcher.problem is None


def settings_of(folder, trials):
    with open_journal(search_spec(), folder, lambda: REFERENCE) as journal:
        searcher = searching(journal, trials)
        while searcher.suggest("t") != Searcher.FINISHED:
            searcher.on_trial_complete("t", result(1, finished=True))
        return [tuple(sorted(trial.config.items())) for trial in journal.trials()]


def test_a_seed_repeats_a_search_and_going_on_repeats_nothing(tmp_path):
    first = settings_of(tmp_path / "one", 4)
    assert first == settings_of(tmp_path / "two", 4)
    assert len(set(settings_of(tmp_path / "one", 8))) == 8


@pytest.mark.parametrize("name", ["tpe", "nsga2", "gp", "random"])
def test_samplers(tmp_path, name):
    with open_journal(search_spec(sampler=name), tmp_path / "s", lambda: REFERENCE) as journal:
        searcher = searching(journal, 14)
        for trial in map(str, range(14)):
            settings = searcher.suggest(trial)["train"]["settings"]
            assert 1 <= settings["rank"] <= 64
            searcher.on_trial_complete(trial, result(1, 0.5 + settings["rank"] / 200, finished=True))
        assert len(ended(journal.trials())) == 14


def test_another_search_of_the_same_name_is_refused_with_what_differs(tmp_path):
    spec = search_spec()
    open_journal(spec, tmp_path / "s", lambda: REFERENCE).close()
    method = MethodSpec(method="lora", settings={"alpha": 8}, space=SPACE)
    other = search_spec(task=TaskSpec(name="demo", max_length=64), methods=(method,), seed=3)
    assert differences(spec, other) == [
        "task.max_length: None there, 64 now",
        "methods.lora.settings.alpha: nothing there, 8 now",
        "seed: 0 there, 3 now",
    ]
    with pytest.raises(AutorankError, match=r"seed: 0 there, 3 now\n.*--name"):
        open_journal(other, tmp_path / "s", lambda: REFERENCE)
