"""The searcher where something was cut off, died or ran out of memory: trials go on, and none counts twice."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.create import open_journal
from autorank.searching.retry_policy import Death
from autorank.spec import TrainingSpec
from tests.searching.driven import MEMORY, REFERENCE, goes_on, reopened, result, searching, states
from tests.searching.standin import search_spec

TRIALS = 14


def test_interrupted_trials_continue_first_from_their_last_evaluation(journal):
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


def test_dead_processes_are_retried_and_lost_nodes_do_not_count(journal):
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


def test_runs_out_of_memory_are_retried_alone_with_half_the_micro_batch(journal):
    searcher = searching(journal)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", MEMORY)
    assert searcher.suggest("c") is None  # until b has ended
    searcher.on_trial_complete("b", result(1, finished=True))
    again = searcher.suggest("c")
    assert again["number"] == 0 and again["train"].training.accumulate == 2
    assert searcher.suggest("d") is None
    for name, following, parts in (("c", "e", 4), ("e", "f", 8)):
        searcher.on_trial_complete(name, MEMORY)
        assert searcher.suggest(following)["train"].training.accumulate == parts
    searcher.on_trial_complete("f", MEMORY)
    assert states(journal)[0] == ("failed", "out of memory")
    assert searcher.suggest("d")["number"] == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_search_interrupted_anywhere_equals_an_uninterrupted_one(tmp_path, sampler):
    """Killed after any of its writes and gone on with, a search ends with the same trials."""

    def work(journal, writes=10**9):
        """One trial after another, as the settings have it; gives up after so many evaluations."""
        searcher = searching(journal, TRIALS)
        while (asked := searcher.suggest("t")) != Searcher.FINISHED:
            settings = asked["train"].settings
            for step in range(asked["recorded"] + 1, 4):
                if (writes := writes - 1) < 0:
                    return
                score = 0.5 + settings["rank"] / 1000 - abs(settings["learning_rate"] - 3e-3) * 10 + step / 100
                told = result(step, score, step == 3, params=settings["rank"])
                if step < 3 and not goes_on(searcher, "t", told):
                    break
            searcher.on_trial_complete("t", told)

    def essence(journal):
        return [replace(t, started=0.0, ended=0.0, seconds=0.0) for t in journal.trials()]

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
        assert searcher.suggest("b")["train"].training.accumulate == after


def test_micro_batches_of_one_cannot_be_halved_and_fail_with_their_reason(tmp_path):
    spec = search_spec(training=TrainingSpec(batch_size=5, accumulate=5))
    with open_journal(spec, tmp_path / "ones", lambda: REFERENCE) as journal:
        searcher = searching(journal)
        searcher.suggest("a")
        searcher.on_trial_complete("a", MEMORY)
        assert states(journal) == [("failed", "out of memory")]


def test_a_node_lost_without_progress_counts(journal):
    searcher = searching(journal, 1, retries=0)
    for name in "ab":
        searcher.suggest(name)
        searcher.deaths[name] = Death("its node went away", preempted=True)
        searcher.on_trial_complete(name, error=True)
    assert states(journal) == [("failed", "its node went away")]


STORAGE_MISSING = Death("Not all nodes of the cluster share /runs: 10.0.0.7 does not see it.", storage_missing=True)


def lose(searcher, name, death=STORAGE_MISSING):
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
