"""The journal: every state, reopening, what readers see, its size."""

from __future__ import annotations

import math
import random
import time
import warnings
from dataclasses import replace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from autorank.errors import AutorankError
from autorank.spec import ObjectivesSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL, runs
from autorank.trials.journal.journal_lock import LOCK, driver
from autorank.trials.provenance import revision
from tests.trials.journals import CONFIG, REFERENCE, SAMPLED, begin_trial, journal_size, optuna_study
from tests.trials.trial_factories import evaluation, search, snapshot


def test_versions_and_data_from_the_beginning_of_a_search_are_stored(journal, folder):
    data = {"digest": "0123456789abcdef", "examples": {"train": 2000, "validation": 400}}
    assert {"torch", "mlflow"} <= set(journal.provenance["versions"]) and "data" not in journal.provenance
    assert len(journal.provenance.get("revision", "f" * 40)) == 40  # where the tests run in a repository
    journal.store_data_description(data)
    journal.store_data_description(data | {"digest": "f" * 16})  # by a later session
    assert journal.has_same_data(data) and not journal.has_same_data(data | {"digest": "f" * 16})
    assert Journal.open(folder).provenance["data"] == data  # as at the beginning


def test_a_search_that_was_moved_and_linked_stays_in_its_folder_of_runs(journal, folder, tmp_path):
    """The default store of MLflow is next to the link, not next to its target."""
    journal.close()
    (tmp_path / "disk").mkdir()
    folder.rename(tmp_path / "disk" / folder.name).rename(tmp_path / "disk" / "moved")
    folder.symlink_to(tmp_path / "disk" / "moved")
    assert Journal.open(folder).folder == folder
    with Journal.open(folder, write=True) as reopened:
        begin_trial(reopened)
    assert len(Journal.open(tmp_path / "disk" / "moved").trials()) == 1


def test_a_folder_without_a_repository_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() is None  # nor without git


def test_a_search_is_described_in_its_study(journal, folder, spec):
    assert journal.spec == spec and journal.reference == REFERENCE
    assert journal.search_id.startswith("first-") and len(journal.search_id) == len("first-") + 8
    study = optuna_study(folder)
    assert study.study_name == journal.search_id
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.metric_names == ["adapter_params", "score"]
    assert "optuna" in study.user_attrs["versions"] and study.user_attrs["created"]


def test_a_spec_with_all_fields_is_restored(folder):
    spec = search(
        "lora-drop", "adalora", baseline=True, model="roberta-base", sampler="gp", halving=None, seed=3,
        objectives=ObjectivesSpec(third_objective="memory", max_params=1000, min_score=0.5, max_memory=10**9),
    )  # fmt: skip
    Journal.create(folder, spec, REFERENCE).close()
    assert Journal.open(folder).spec == spec
    assert ObjectivesSpec.model_validate({"third": "memory"}).third_objective == "memory"  # as in earlier journals


def test_creating_a_journal_prints_nothing(folder, spec, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Journal.create(folder, spec, REFERENCE).close()
    assert capfd.readouterr() == ("", "")


def test_a_trial_begins_with_all_its_settings(journal, folder):
    before = time.time()
    first = journal.begin("lora-drop", CONFIG, SAMPLED)
    second = journal.begin("lora", {"learning_rate": 2e-3}, {}, baseline=True)
    assert journal.trials() == [first, second] == [journal.trial(0), journal.trial(1)]
    assert (first.number, first.method, first.settings, first.state) == (0, "lora-drop", CONFIG, "running")
    assert first.sampled == {"learning_rate": 1e-3, "rank": 4, "shape": "step"}
    assert (first.evaluations, first.sampler_values, first.reason, first.step) == ((), None, None, 0)
    assert before - 1e-3 <= first.started <= time.time() and (first.ended, first.seconds) == (0, 0)
    assert (first.retries, first.finished, first.reduced_micro_batch, first.baseline) == (0, False, 0, False)
    assert (second.number, second.method, second.baseline, second.sampled) == (1, "lora", True, {})
    assert optuna_study(folder).trials[0].distributions == {name: space for name, (_, space) in SAMPLED.items()}


def test_states_of_trials_are_stored(journal, folder):
    complete, pruned, failed, never_evaluated, diverged, running = (begin_trial(journal) for _ in range(6))
    for step, (params, score) in enumerate([(50, 0.6), (200, 0.8), (100, 0.8), (100, math.nan)], start=1):
        assert journal.record(complete, evaluation(step, params, score), last=step == 4)
    journal.record(pruned, evaluation(1, 10, 0.5))
    journal.record(diverged, evaluation(1, 10, math.nan))
    journal.record(diverged, evaluation(2, 10, math.inf))

    record = journal.finish(complete, "complete")
    assert (record.state, record.reason, record.seconds, len(record.evaluations)) == ("complete", None, 4, 4)
    assert record.sampler_values is None  # none were passed
    assert record.finished and record.started < record.ended <= time.time()
    record = journal.finish(pruned, "pruned", "behind its peers at step 1", sampler_values=(0.55,))
    assert (record.state, record.reason, record.sampler_values) == ("pruned", "behind its peers at step 1", (0.55,))
    assert not record.finished
    assert journal.finish(failed, "failed", "out of memory").reason == "out of memory"
    for number in (never_evaluated, diverged):
        record = journal.finish(number, "complete")
        assert (record.state, record.reason) == ("failed", "no evaluation with a finite score")
        assert record.sampler_values is None

    trials = optuna_study(folder).trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert trials[complete].values == [100, 0.8]
    assert [trials[number].values for number in (pruned, failed, diverged, running)] == [None] * 4
    assert journal.trial(running).state == "running" and journal.trial(running).ended == 0
    assert repr(Journal.open(folder).trials()) == repr(journal.trials())


def test_an_ended_trial_cannot_be_changed(journal):
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 10, 0.5))
    before = journal.finish(number, "complete")
    for change in (
        lambda: journal.record(number, evaluation(2, 10, 0.9)),
        lambda: journal.note(number, retries=1),
        lambda: journal.finish(number, "failed", "late"),
    ):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            change()
    assert journal.trial(number) == before and [p.score for p in journal.snapshot().points] == [0.5]


def test_reopened_journal_is_equal(journal, folder):
    number = begin_trial(journal)
    journal.record(number, evaluation(10, 50, 0.6, metrics={"f1": math.nan}))
    journal.record(number, evaluation(20, 40, 0.7), last=True)
    journal.note(number, retries=1)
    journal.finish(number, "complete")
    journal.begin("lora", {"learning_rate": 1e-3}, {}, baseline=True)
    journal.record(1, evaluation(10, 50, 0.9))
    journal.note(1, retries=2, reduced_micro_batch=1)
    before, fronts = journal.trials(), journal.snapshot()
    journal.close()

    reopened = Journal.open(folder)
    assert reopened.spec == journal.spec and reopened.search_id == journal.search_id
    after = reopened.trials()
    assert repr(after) == repr(before)  # by repr, for NaN is not equal to itself
    assert (reopened.snapshot().points, reopened.snapshot().baseline) == (fronts.points, fronts.baseline)
    assert after[0].settings == CONFIG and after[0].evaluations[1].ranks == {"layer.0.query": 4, "layer.1.query": 4}
    assert after[0].seconds == 20 and after[0].started > 1_700_000_000 and after[0].finished
    assert (after[1].retries, after[1].reduced_micro_batch, after[1].baseline, after[1].finished) == (2, 1, True, False)


def test_the_snapshot_is_the_front_from_scratch(folder):
    objectives = ObjectivesSpec(third_objective="seconds", max_params=15)
    draw = random.Random(0)
    with Journal.create(folder, search(baseline=True, objectives=objectives), REFERENCE) as journal:
        for number in range(12):
            journal.begin("lora" if number % 4 == 1 else "lora-drop", CONFIG, {}, baseline=number % 4 == 1)
        for step in range(1, 6):
            for number in draw.sample(range(12), 12):
                if draw.random() < 0.8:
                    score, seconds = draw.randrange(6) / 5, float(draw.randrange(4))
                    journal.record(number, evaluation(step, draw.randrange(20), score, seconds=seconds))
        for number in range(0, 12, 2):
            journal.finish(number, draw.choice(["complete", "pruned", "failed"]))
        assert journal.snapshot() == replace(snapshot(journal.trials(), objectives), reference=REFERENCE)
        assert Journal.open(folder).snapshot() == journal.snapshot()
        assert journal.snapshot().points and journal.snapshot().baseline


def test_a_snapshot_is_unchanged_by_later_evaluations(journal):
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 100, 0.5))
    before = journal.snapshot()
    journal.record(number, evaluation(2, 50, 0.9))
    journal.finish(number, "complete")
    assert [len(trial.evaluations) for trial in before.trials] == [1] and before.trials[0].state == "running"
    assert [p.adapter_params for p in before.points] == [100]


def test_a_reader_sees_the_journal_as_it_was_when_it_was_opened_and_writes_nothing(journal, folder):
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 10, 0.5))
    before = (folder / JOURNAL).stat()
    reader = Journal.open(folder)
    assert (folder / JOURNAL).stat() == before
    trials, fronts = reader.trials(), reader.snapshot()
    assert trials == journal.trials()
    journal.record(number, evaluation(2, 5, 0.6))
    begin_trial(journal)
    journal.finish(number, "complete")
    assert reader.trials() == trials and reader.snapshot() == fronts
    assert Journal.open(folder).trials() == journal.trials()
    before = journal_size(folder)
    for write in (
        lambda: begin_trial(reader),
        lambda: reader.record(number, evaluation(3, 5, 0.6)),
        lambda: reader.finish(number, "complete"),
        lambda: reader.set_options(trials=3),
    ):
        with pytest.raises(RuntimeError, match="open for reading only"):
            write()
    assert reader.trials() == trials and journal_size(folder) == before


def test_a_reader_may_open_the_journal_while_the_driver_writes(journal, folder, monkeypatch):
    number, steps = begin_trial(journal), iter(range(1, 1000))
    sync = JournalStorage._sync_with_backend

    def write_then_sync(storage):
        if storage is not journal._storage:  # at each read there is more, of layers not known so far
            step = next(steps)
            journal.record(number, evaluation(step, 10, 0.5, ranks={f"layer.{step}": step}))
        sync(storage)

    monkeypatch.setattr(JournalStorage, "_sync_with_backend", write_then_sync)
    (trial,) = Journal.open(folder).trials()
    assert trial.evaluations == journal.trial(number).evaluations[: len(trial.evaluations)] != ()


def test_a_stored_evaluation_is_not_stored_again(journal, folder):
    number = begin_trial(journal)
    assert journal.record(number, evaluation(10, 50, 0.5))
    before = journal_size(folder)
    assert not journal.record(number, evaluation(10, 50, 0.6))  # as reported by a run that resumed from a checkpoint
    assert not journal.record(number, evaluation(5, 50, 0.1), last=True)
    assert journal_size(folder) == before and not journal.trial(number).finished
    assert journal.record(number, evaluation(20, 50, 0.7), last=True)
    assert [(e.step, e.score) for e in journal.trial(number).evaluations] == [(10, 0.5), (20, 0.7)]
    assert journal.trial(number).finished and journal.trial(number).step == 20
    assert Journal.open(folder).trials() == journal.trials()


def test_options_of_the_last_run(journal, folder):
    assert journal.options == {}
    journal.set_options(trials=20, confirm=0)
    size = (folder / JOURNAL).stat().st_size
    journal.set_options(trials=20, confirm=0)
    assert (folder / JOURNAL).stat().st_size == size  # unchanged options are not written
    journal.set_options(trials=30, confirm=2)
    assert journal.options == Journal.open(folder).options == {"trials": 30, "confirm": 2}
    assert journal.snapshot().requested == 30


def test_confirmations_are_stored(journal, folder):
    assert journal.snapshot().confirmed == {}
    journal.confirm(3, 120, 64, 1, {"score": 0.8, "metrics": {"f1": 0.7}})
    before = journal.snapshot()
    journal.confirm(3, 120, 64, 2, {"score": 0.7})
    assert set(before.confirmed) == {(3, 120, 64, 1)}
    journal.confirm(3, 120, 64, 2, {"score": 0.75})
    stored = {(3, 120, 64, 1): {"score": 0.8, "metrics": {"f1": 0.7}}, (3, 120, 64, 2): {"score": 0.75}}
    assert journal.snapshot().confirmed == Journal.open(folder).snapshot().confirmed == stored


def test_a_run_is_created_once(journal, folder, spec):
    journal.close()
    with pytest.raises(AutorankError, match=r"already.*autorank resume first"):
        Journal.create(folder, spec, REFERENCE)
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, JOURNAL]
    assert driver(folder) is None


def test_an_unknown_search_is_reported_with_similar_names(journal, folder):
    assert runs(folder.parent) == ["first"]
    with pytest.raises(AutorankError, match=r"Unknown search 'frist'\. Did you mean 'first'"):
        Journal.open(folder.parent / "frist")
    with pytest.raises(AutorankError, match="contains no searches"):
        Journal.open(folder.parent / "nowhere" / "first", write=True)
    assert not (folder.parent / "nowhere").exists()


def test_optuna_opens_the_journal_and_continues_it(journal, folder):
    for number in range(6):
        begin_trial(journal)
        journal.record(number, evaluation(1, 50 - number, 0.6 - number / 100))
        journal.finish(number, ("complete", "pruned", "failed")[number % 3], sampler_values=(0.5,))
    begin_trial(journal)
    journal.close()
    study = optuna_study(folder)
    assert [trial.values for trial in study.best_trials] == [[50, 0.6], [47, 0.57]]
    study.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=1)
    trial = study.ask({name: space for name, (_, space) in SAMPLED.items()})
    assert trial.number == 7 and set(trial.params) == set(SAMPLED)


def test_optunas_verbosity_is_unchanged(folder, spec, capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        with Journal.create(folder, spec, REFERENCE) as new:
            begin_trial(new)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert "new study" not in capfd.readouterr().err
    finally:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
