"""The journal: every state, reopening, recovery, torn files, one driver at a time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import warnings

import optuna
import pytest
from optuna.trial import TrialState

from autorank.errors import AutorankError
from autorank.results.journal import JOURNAL, Journal, runs
from autorank.results.lock import LOCK, driver
from tests.results.made_trials import evaluation

REFERENCE = (1000.0, 0.5)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "first"


@pytest.fixture
def journal(folder, spec, sampler):
    with Journal.create(folder, spec, REFERENCE, sampler()) as journal:
        yield journal


def asked(journal):
    trial = journal.ask()
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    rank = trial.suggest_int("rank", 1, 8)
    journal.start(trial.number, {"learning_rate": rate, "rank": rank, "alpha": 16})
    return trial.number


def states(journal):
    return [trial.state for trial in journal.study.get_trials(deepcopy=False)]


def test_a_search_is_described_in_its_study(journal, spec):
    assert journal.spec == spec and journal.reference == REFERENCE
    assert journal.search_id.startswith("first-") and len(journal.search_id) == len("first-") + 8
    assert [direction.name for direction in journal.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert journal.study.metric_names == ["adapter_params", "score"]
    assert "optuna" in journal.study.user_attrs["versions"] and journal.study.user_attrs["created"]


def test_making_one_says_nothing(folder, spec, sampler, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Journal.create(folder, spec, REFERENCE, sampler()).close()
    assert capfd.readouterr() == ("", "")


def test_each_state(journal):
    complete, pruned, failed, never_evaluated, diverged, running = (asked(journal) for _ in range(6))
    for step, (params, score) in enumerate([(50, 0.6), (200, 0.8), (100, 0.8), (100, math.nan)], start=1):
        journal.record(complete, evaluation(step, params, score))
    journal.record(pruned, evaluation(1, 10, 0.5))
    journal.record(diverged, evaluation(1, 10, math.nan))
    journal.record(diverged, evaluation(2, 10, math.inf))

    record = journal.finish(complete, "complete", seconds=12.5)
    assert (record.state, record.reason, record.seconds, len(record.evaluations)) == (
        "complete",
        None,
        12.5,
        4,
    )
    assert journal.finish(pruned, "pruned", "behind its peers at step 1").state == "pruned"
    assert journal.finish(failed, "failed", "out of memory").reason == "out of memory"
    for number in (never_evaluated, diverged):
        record = journal.finish(number, "complete")
        assert (record.state, record.reason) == ("failed", "no evaluation with a finite score")

    told = journal.study.trials
    assert states(journal) == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert told[complete].values == [100, 0.8]  # the best score, and of its two the fewer parameters
    assert told[pruned].values is None
    assert [trial.state for trial in journal.trials()][running] == "running"


def test_the_sampler_goes_on_after_every_state(journal):
    for ending in ("complete", "pruned", "failed", "complete", "complete", "pruned"):
        number = asked(journal)
        journal.record(number, evaluation(1, 10 * number + 10, 0.5 + number / 100))
        journal.finish(number, ending)
    assert asked(journal) == 6


def test_reopened_it_is_the_same(journal, folder):
    number = asked(journal)
    journal.record(number, evaluation(10, 50, 0.6, metrics={"f1": math.nan}))
    journal.record(number, evaluation(20, 40, 0.7))
    journal.finish(number, "complete")
    asked(journal)
    before = journal.trials()
    journal.close()

    again = Journal.open(folder)
    assert again.spec == journal.spec and again.search_id == journal.search_id
    after = again.trials()
    assert repr(after) == repr(before)  # by repr, for NaN is not equal to itself
    assert after[0].config["alpha"] == 16 and after[0].evaluations[1].ranks == {
        "layer.0.query": 4,
        "layer.1.query": 4,
    }
    assert after[0].started > 1_700_000_000 and 0 < after[0].seconds < 60


def test_a_reader_sees_what_the_driver_appends_and_writes_nothing(journal, folder):
    reader = Journal.open(folder)
    assert reader.trials() == []
    number = asked(journal)
    journal.record(number, evaluation(1, 10, 0.5))
    assert [len(trial.evaluations) for trial in reader.trials()] == [1]
    journal.record(number, evaluation(2, 10, 0.6))
    journal.finish(number, "complete")
    assert reader.trials() == journal.trials()
    with pytest.raises(RuntimeError, match="reading only"):
        reader.ask()


def test_an_evaluation_of_the_same_step_is_replaced(journal):
    number = asked(journal)
    for score in (0.5, 0.6):
        journal.record(number, evaluation(10, 50, score))
    journal.record(number, evaluation(5, 50, 0.1))
    assert [(e.step, e.score) for e in journal.trials()[0].evaluations] == [(5, 0.1), (10, 0.6)]


def test_recover_leaves_no_zombie_and_loses_no_settings(journal, folder, sampler):
    for ending in ("complete", None, None):
        number = asked(journal)
        journal.record(number, evaluation(10, 50, 0.6))
        if ending:
            journal.finish(number, ending)
    journal.ask()  # the driver dies before anything was suggested
    left = [trial.params for trial in journal.study.trials]
    journal.close()

    with Journal.open(folder, sampler()) as again:
        recovered = again.recover()
        assert [(trial.number, trial.state, trial.reason) for trial in recovered] == [
            (number, "failed", "interrupted") for number in (1, 2, 3)
        ]
        assert recovered[0].seconds == 10  # what its evaluations took, not the time until now
        assert TrialState.RUNNING not in states(again)
        assert len(again.trials()) == 4  # settings that wait are no trials yet
        for number in (1, 2):
            retry = asked(again)
            trial = again.study.trials[retry]
            assert trial.params == left[number] and trial.user_attrs["retry_of"] == number
        fresh = asked(again)  # of the third there was nothing to try again
        assert "retry_of" not in again.study.trials[fresh].user_attrs
        assert again.recover() != [] and again.recover() == []


def test_recover_cut_off_in_the_middle_enqueues_nothing_twice(journal, monkeypatch):
    asked(journal)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            journal.recover()
    journal.recover()
    assert states(journal) == [TrialState.FAIL, TrialState.WAITING]


def test_recover_keeps_enqueued_settings_that_were_not_suggested_yet(journal):
    journal.study.enqueue_trial({"learning_rate": 1e-3, "rank": 5})
    journal.ask().suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    journal.recover()
    retry = asked(journal)
    assert journal.study.trials[retry].params == {"learning_rate": 1e-3, "rank": 5}


def test_a_torn_last_line_costs_only_itself(journal, folder, sampler):
    number = asked(journal)
    journal.record(number, evaluation(1, 50, 0.6))
    journal.record(number, evaluation(2, 50, 0.7))
    journal.close()
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes()[:-20])

    assert [e.step for e in Journal.open(folder).trials()[0].evaluations] == [1]
    with Journal.open(folder, sampler()) as again:
        again.record(number, evaluation(3, 50, 0.8))
        again.finish(number, "complete")
    trial = Journal.open(folder).trials()[0]
    assert trial.state == "complete" and [e.step for e in trial.evaluations] == [1, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_torn_by_a_full_disk_is_mended_by_the_same_driver(journal, folder):
    number = asked(journal)
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":8,"tri')
    journal.finish(number, "failed", "no space left on the disk")
    assert Journal.open(folder).trials()[0].reason == "no space left on the disk"


def test_a_spoiled_journal_is_named(journal, folder):
    journal.close()
    path = folder / JOURNAL
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["{spoiled", *lines]) + "\n")
    with pytest.raises(AutorankError, match="cannot be read") as error:
        Journal.open(folder)
    assert str(path) in str(error.value)


def test_a_spec_of_another_version_is_named(journal, folder):
    journal.study.set_user_attr("spec", {**journal.study.user_attrs["spec"], "novelty": 1})
    journal.close()
    with pytest.raises(AutorankError, match=r"another version(.|\n)*novelty"):
        Journal.open(folder)


def test_one_driver_at_a_time(journal, folder, spec, sampler):
    assert driver(folder) == os.getpid()
    for second in (
        lambda: Journal.open(folder, sampler()),
        lambda: Journal.create(folder, spec, REFERENCE, sampler()),
    ):
        with pytest.raises(AutorankError, match=f"Process {os.getpid()} is at work on the run 'first'"):
            second()
    journal.close()
    assert driver(folder) is None
    Journal.open(folder, sampler()).close()


def test_a_killed_driver_bars_nobody(folder, spec, sampler):
    script = f"""
import sys, optuna
from autorank.results.journal import Journal
from autorank.spec import SearchSpec
spec = SearchSpec.model_validate_json({spec.model_dump_json()!r})
journal = Journal.create({str(folder)!r}, spec, (1000, 0.5), optuna.samplers.RandomSampler())
journal.ask().suggest_int("rank", 1, 8)
print("ready", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(AutorankError, match=f"Process {child.pid} is"):
        Journal.open(folder, sampler())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with Journal.open(folder, sampler()) as journal:
        assert [trial.reason for trial in journal.recover()] == ["interrupted"]


def test_a_run_is_made_once(journal, folder, spec, sampler):
    journal.close()
    with pytest.raises(AutorankError, match=r"already.*autorank resume first"):
        Journal.create(folder, spec, REFERENCE, sampler())
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, JOURNAL]


def test_an_unknown_run_names_those_there_are(journal, folder):
    assert runs(folder.parent) == ["first"]
    with pytest.raises(AutorankError, match=r"Unknown run 'frist'\. Did you mean 'first'"):
        Journal.open(folder.parent / "frist")
    with pytest.raises(AutorankError, match="holds none"):
        Journal.open(folder.parent / "nowhere" / "first")
    assert not (folder.parent / "nowhere").exists()


def test_optuna_opens_it(journal, folder):
    number = asked(journal)
    journal.record(number, evaluation(1, 50, 0.6))
    journal.finish(number, "complete")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    )
    study = optuna.load_study(study_name=None, storage=storage)
    assert [trial.values for trial in study.best_trials] == [[50, 0.6]]
