"""The searcher after interruptions, deaths and lack of memory: trials continue, and none counts twice."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from ray.tune.search import Searcher

from autorank.errors import AutorankError
from autorank.searching.create import open_journal
from autorank.searching.retry_policy import Death
from autorank.spec import TrainingSpec
from tests.searching.fake_runs import search_spec
from tests.searching.searcher_driver import OUT_OF_MEMORY, REFERENCE, goes_on, make_searcher, reopen, result, states

TRIALS = 14


def test_interrupted_trials_continue_first_from_their_last_evaluation(journal):
    searcher = make_searcher(journal)
    suggestions = [searcher.suggest(name) for name in "abc"]
    searcher.on_trial_result("a", result(1))
    searcher.on_trial_complete("b", result(1, finished=True))
    with reopen(journal) as reopened:
        resumed = make_searcher(reopened)
        assert resumed.suggest("d") == suggestions[0] | {"recorded": 1}
        assert resumed.suggest("e") == suggestions[2]
        assert resumed.suggest("f")["number"] == 3


def test_a_trial_interrupted_after_its_last_evaluation_is_complete(journal):
    searcher = make_searcher(journal)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(3, finished=True))
    with reopen(journal) as reopened:
        assert make_searcher(reopened).suggest("b")["number"] == 1
        assert states(reopened)[0] == ("complete", None)


def test_stopping_decisions_are_not_revised_when_a_search_resumes(journal):
    """A trial that was to be stopped is stopped when the search resumes; one that was to continue continues, whatever
    its rung has received since."""
    interrupted = make_searcher(journal)
    for name, score in zip("abc", (0.9, 0.8, 0.7), strict=True):  # ranks 8, 1 and 64: the last one is beaten
        interrupted.suggest(name)
        interrupted.on_trial_result(name, result(1, score))
    with reopen(journal) as reopened:
        searcher = make_searcher(reopened)
        assert [searcher.suggest(name)["number"] for name in "def"] == [0, 1, 3]
        assert states(reopened)[2] == ("pruned", "beaten")
        for name, score in zip("ghij", (0.99, 0.98, 0.97, 0.96), strict=True):
            searcher.suggest(name)
            searcher.on_trial_result(name, result(1, score, params=1))
    with reopen(reopened) as reopened_again:
        assert make_searcher(reopened_again).suggest("k")["number"] == 0


def test_dead_processes_are_retried_and_lost_nodes_do_not_count(journal):
    searcher = make_searcher(journal, 1, retries=1)
    suggestion = searcher.suggest("a")
    lost = Death("its node went away", preempted=True)
    for step, (name, death) in enumerate({"a": lost, "b": lost, "c": Death("crashed")}.items(), start=1):
        searcher.on_trial_result(name, result(step))
        searcher.deaths[name] = death
        searcher.on_trial_complete(name, error=True)
        assert searcher.suggest(chr(ord(name) + 1)) == suggestion | {"recorded": step}
    searcher.deaths["d"] = Death("crashed again")
    searcher.on_trial_complete("d", error=True)
    assert states(journal) == [("failed", "crashed again")] and searcher.suggest("e") == Searcher.FINISHED


def test_runs_out_of_memory_are_retried_alone_with_half_the_micro_batch(journal):
    searcher = make_searcher(journal)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", OUT_OF_MEMORY)
    assert searcher.suggest("c") is None  # until b has ended
    searcher.on_trial_complete("b", result(1, finished=True))
    retry = searcher.suggest("c")
    assert retry["number"] == 0 and retry["train"].training.accumulate == 2
    assert searcher.suggest("d") is None
    for name, following, parts in (("c", "e", 4), ("e", "f", 8)):
        searcher.on_trial_complete(name, OUT_OF_MEMORY)
        assert searcher.suggest(following)["train"].training.accumulate == parts
    searcher.on_trial_complete("f", OUT_OF_MEMORY)
    assert states(journal)[0] == ("failed", "out of memory")
    assert searcher.suggest("d")["number"] == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_search_interrupted_anywhere_equals_an_uninterrupted_one(tmp_path, sampler):
    """A search that is killed after any of its writes and resumed ends with the same trials."""

    def work(journal, writes=10**9):
        """Run one trial after another, with scores that depend on the settings; return after `writes` evaluations."""
        searcher = make_searcher(journal, TRIALS)
        while (suggestion := searcher.suggest("t")) != Searcher.FINISHED:
            settings = suggestion["train"].settings
            for step in range(suggestion["recorded"] + 1, 4):
                if (writes := writes - 1) < 0:
                    return
                score = 0.5 + settings["rank"] / 1000 - abs(settings["learning_rate"] - 3e-3) * 10 + step / 100
                tune_result = result(step, score, step == 3, params=settings["rank"])
                if step < 3 and not goes_on(searcher, "t", tune_result):
                    break
            searcher.on_trial_complete("t", tune_result)

    def without_times(journal):
        return [replace(t, started=0.0, ended=0.0, seconds=0.0) for t in journal.trials()]

    spec = search_spec(sampler=sampler)
    with open_journal(spec, tmp_path / "whole", lambda: REFERENCE) as journal:
        work(journal)
        expected = without_times(journal)
    assert {"pruned", "complete"} == {trial.state for trial in expected}
    for writes in (1, 2, 5):
        for _ in range(100):
            with open_journal(spec, tmp_path / f"cut-{writes}", lambda: REFERENCE) as journal:
                work(journal, writes)
                if len(journal.trials()) == TRIALS and all(trial.state != "running" for trial in journal.trials()):
                    break
        assert without_times(journal) == expected


@pytest.mark.parametrize(("batch", "before", "after"), [(12, 1, 2), (12, 4, 12), (10, 2, 5), (15, 1, 3)])
def test_micro_batches_of_one_size_are_half_as_large_or_less(tmp_path, batch, before, after):
    spec = search_spec(training=TrainingSpec(batch_size=batch, accumulate=before))
    with open_journal(spec, tmp_path / "uneven", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        searcher.suggest("a")
        searcher.on_trial_complete("a", OUT_OF_MEMORY)
        assert searcher.suggest("b")["train"].training.accumulate == after


def test_micro_batches_of_one_cannot_be_halved_and_fail_with_their_reason(tmp_path):
    spec = search_spec(training=TrainingSpec(batch_size=5, accumulate=5))
    with open_journal(spec, tmp_path / "ones", lambda: REFERENCE) as journal:
        searcher = make_searcher(journal)
        searcher.suggest("a")
        searcher.on_trial_complete("a", OUT_OF_MEMORY)
        assert states(journal) == [("failed", "out of memory")]


def test_a_node_lost_without_progress_counts(journal):
    searcher = make_searcher(journal, 1, retries=0)
    for name in "ab":
        searcher.suggest(name)
        searcher.deaths[name] = Death("its node went away", preempted=True)
        searcher.on_trial_complete(name, error=True)
    assert states(journal) == [("failed", "its node went away")]


STORAGE_MISSING = Death("Not all nodes of the cluster share /runs: 10.0.0.7 does not see it.", storage_missing=True)


def let_die(searcher, name, death=STORAGE_MISSING):
    """Let the trial's process die."""
    searcher.deaths[name] = death
    searcher.on_trial_complete(name, error=True)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_node_that_does_not_see_the_folder_ends_no_trials_elsewhere(journal, retries):
    """Its trials die within seconds, so it gets the next. After too many it gets none until the trial that runs on
    another node evaluates or ends, and then as many as before."""
    searcher = make_searcher(journal, 3, retries=retries)
    assert searcher.suggest("fine")["number"] == 0
    events = [
        lambda: searcher.on_trial_result("fine", result(1)),
        lambda: searcher.on_trial_result("fine", result(2)),
        lambda: searcher.on_trial_complete("fine", {"failed": "diverged", "traceback": "", "done": True}),
    ]
    for event in events:
        for i in range(retries + 1):
            assert searcher.suggest(str(i))["number"] == 1
            let_die(searcher, str(i))
        assert searcher.suggest("held") is None and searcher.problem is None
        event()
    assert searcher.suggest("there")["number"] == 1  # on the node of the trial that has ended
    assert searcher.suggest("fine")["number"] == 2
    searcher.on_trial_complete("there", result(3, finished=True))
    let_die(searcher, "fine", Death("crashed"))
    assert [trial.state for trial in journal.trials()] == ["failed", "complete", "running" if retries else "failed"]
    assert journal.trial(1).retries == 0 and searcher.problem is None


def test_a_search_ends_when_no_node_sees_its_folder(journal):
    """Also with several trials at once. None of them fails: they continue when the search does."""
    searcher = make_searcher(journal, 3, retries=1)
    for name in "ab":
        searcher.suggest(name)
    let_die(searcher, "a")
    assert searcher.suggest("a")["number"] == 0
    let_die(searcher, "a")
    assert searcher.suggest("a") is None and searcher.problem is None  # b may be on another node
    let_die(searcher, "b")
    assert isinstance(searcher.problem, AutorankError) and "10.0.0.7" in str(searcher.problem)
    assert states(journal) == [("running", None)] * 2 and journal.trial(1).retries == 0
    with reopen(journal) as reopened:
        assert [make_searcher(reopened).suggest("x")["number"]] == [0]


def test_a_trial_that_dies_after_the_deadline_is_pruned(journal):
    searcher = make_searcher(journal, deadline=time.monotonic() + 3600)
    searcher.suggest("a")
    searcher._deadline = time.monotonic()
    searcher.on_trial_complete("a", error=True)
    assert states(journal) == [("pruned", "time budget")]
