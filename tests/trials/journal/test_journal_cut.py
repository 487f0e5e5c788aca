"""The journal after failures: interrupted writes, torn lines, a full disk, a second driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL, JournalFile
from autorank.trials.journal.journal_lock import LOCK, driver
from tests.trials.journals import CONFIG, REFERENCE, begin_trial
from tests.trials.trial_factories import base_ranks, evaluation

ROOT = Path(__file__).parents[3]


def test_an_interrupted_start_of_a_trial_is_stored_entirely_or_not_at_all(journal, folder):
    path = folder / JOURNAL
    begin_trial(journal)
    start = path.read_bytes()
    begin_trial(journal, baseline=True)
    end = path.read_bytes()
    expected = journal.trials()
    journal.close()
    assert end[len(start) :].count(b"\n") == 1
    for length in sorted({*range(len(start), len(end), 29), len(end) - 1, len(end)}):
        path.write_bytes(end[:length])
        stored = expected if length == len(end) else expected[:1]
        assert Journal.open(folder).trials() == stored
        with Journal.open(folder, write=True) as reopened:
            assert reopened.trials() == stored and reopened.truncated_bytes == (
                length - len(start) if stored != expected else 0
            )
            assert begin_trial(reopened) == len(stored)
        assert len(Journal.open(folder).trials()) == len(stored) + 1


def test_an_interrupted_write_leaves_the_previous_content(journal, folder):
    path = folder / JOURNAL
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 50, 0.6))
    start = path.read_bytes()
    latest = evaluation(2, 40, 0.7, ranks=base_ranks(layers=1))  # other layers: their names take a line of their own
    journal.record(number, latest, last=True)
    end, expected = path.read_bytes(), journal.trials()
    journal.close()
    assert end[len(start) :].count(b"\n") == 2
    for length in sorted({*range(len(start), len(end), 29), len(end) - 1, len(end)}):
        path.write_bytes(end[:length])
        with Journal.open(folder, write=True) as reopened:
            (trial,) = reopened.trials()
            assert [e.step for e in trial.evaluations] == ([1, 2] if length == len(end) else [1])
            assert reopened.record(number, latest, last=True) == (length < len(end))
            assert reopened.trials() == expected
        assert Journal.open(folder).trials() == expected


def test_only_the_torn_last_line_is_lost(journal, folder):
    number = begin_trial(journal)
    journal.record(number, evaluation(1, 50, 0.6))
    journal.record(number, evaluation(2, 50, 0.7))
    journal.close()
    path = folder / JOURNAL
    torn = path.read_bytes()[:-20]
    path.write_bytes(torn)

    reader = Journal.open(folder)
    assert [e.step for e in reader.trials()[0].evaluations] == [1]
    assert reader.truncated_bytes == 0 and path.read_bytes() == torn  # a reader repairs nothing
    with Journal.open(folder, write=True) as reopened:
        assert reopened.truncated_bytes == len(torn) - torn.rfind(b"\n") - 1 > 0
        assert [p.score for p in reopened.snapshot().points] == [0.6]
        reopened.record(number, evaluation(3, 50, 0.8))
        reopened.finish(number, "complete")
    trial = Journal.open(folder).trials()[0]
    assert trial.state == "complete" and [e.step for e in trial.evaluations] == [1, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_torn_by_a_full_disk_is_repaired_by_the_same_driver(journal, folder):
    number = begin_trial(journal)
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":8,"tri')
    journal.finish(number, "failed", "no space left on the disk")
    assert Journal.open(folder).trials()[0].reason == "no space left on the disk"


@pytest.mark.parametrize("lines", [0, 1])
def test_a_failed_recording_can_be_repeated(journal, folder, monkeypatch, lines):
    number = begin_trial(journal)
    append, remaining = JournalFile.append_logs, [None] * lines

    def full(backend, logs):
        if not remaining:
            raise OSError("no space left on the disk")
        remaining.pop()
        append(backend, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "append_logs", full)
        with pytest.raises(OSError, match="no space"):
            journal.record(number, evaluation(1, 50, 0.6))
    assert journal.trial(number).evaluations == () and journal.snapshot().points == []
    assert journal.record(number, evaluation(1, 50, 0.6))
    assert Journal.open(folder).trials() == journal.trials()


def test_a_spec_of_another_version_is_named(journal, folder):
    study = journal._storage.get_all_studies()[0]
    journal._storage.set_study_user_attr(study._study_id, "spec", {**study.user_attrs["spec"], "novelty": 1})
    journal.close()
    with pytest.raises(AutorankError, match=r"another version(.|\n)*novelty"):
        Journal.open(folder)


def test_one_driver_at_a_time(journal, folder, spec):
    assert driver(folder) == os.getpid()
    for second in (
        lambda: Journal.open(folder, write=True),
        lambda: Journal.create(folder, spec, REFERENCE),
    ):
        with pytest.raises(AutorankError, match=f"Process {os.getpid()} is already running 'first'"):
            second()
    journal.close()
    assert driver(folder) is None
    Journal.open(folder, write=True).close()


def test_a_killed_driver_does_not_block_the_next_one_and_its_trials_are_running(folder, spec):
    script = f"""
import sys
from autorank.trials.journal.journal import Journal
from autorank.spec import SearchSpec
from tests.trials.trial_factories import evaluation
spec = SearchSpec.model_validate_json({spec.model_dump_json()!r})
journal = Journal.create({str(folder)!r}, spec, (1000, 0.5))
for number in range(3):
    journal.begin("lora-drop", {CONFIG!r}, {{}})
journal.record(0, evaluation(10, 50, 0.6))
journal.record(0, evaluation(20, 40, 0.7))
journal.note(0, retries=1)
journal.record(1, evaluation(10, 30, 0.6), last=True)
journal.finish(1, "complete")
print("ready", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(AutorankError, match=f"Process {child.pid} is"):
        Journal.open(folder, write=True)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with Journal.open(folder, write=True) as journal:
        assert journal.truncated_bytes == 0
        first, second, third = journal.trials()
        assert [trial.state for trial in (first, second, third)] == ["running", "complete", "running"]
        assert [(e.step, e.score) for e in first.evaluations] == [(10, 0.6), (20, 0.7)]
        assert (first.retries, first.settings, first.ended, first.seconds) == (1, CONFIG, 0, 20)
        assert third.evaluations == ()
        journal.record(0, evaluation(30, 40, 0.8), last=True)  # it continues under its number
        assert journal.finish(0, "complete", sampler_values=(0.8,)).sampler_values == (0.8,)
        assert begin_trial(journal) == 3


def test_an_unfinished_new_journal_is_ignored(folder, spec):
    folder.mkdir()
    (folder / f"{JOURNAL}.new").write_text('{"torn')
    with pytest.raises(AutorankError, match="Search 'first' does not exist"):
        Journal.open(folder)
    with Journal.create(folder, spec, REFERENCE) as journal:
        assert journal.trials() == []
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, JOURNAL]
