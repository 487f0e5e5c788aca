"""Helpers that drive a searcher as Tune does."""

from __future__ import annotations

from autorank.searching.journal_searcher import JournalSearcher
from autorank.trials.journal.journal import Journal
from tests.searching.fake_runs import bounds
from tests.trials.trial_factories import evaluation

REFERENCE = (64.0, 0.0)

OUT_OF_MEMORY = {"failed": "out of memory", "traceback": "", "out_of_memory": True, "done": True}


def make_searcher(journal, trials=9, **options):
    return JournalSearcher(journal, bounds, trials, **options)


def result(step, score=0.8, finished=False, params=100):
    return {"evaluation": evaluation(step, params, score), "finished": finished, "done": finished}


def goes_on(searcher, trial_id, result):
    """Report a result as the scheduler does, and return whether the trial goes on."""
    searcher.on_trial_result(trial_id, result)
    return not searcher.should_stop(trial_id)


def states(journal):
    return [(trial.state, trial.reason) for trial in journal.trials()]


def reopen(journal):
    journal.close()
    return Journal.open(journal.folder, write=True)
