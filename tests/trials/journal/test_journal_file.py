"""Damage of a journal's file: each kind is one message that names the line and a remedy that works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from autorank.errors import AutorankError
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from tests.trials.journals import begin_trial
from tests.trials.trial_factories import evaluation


@pytest.fixture
def path(journal: Journal, folder: Path) -> Path:
    """The file of a search with two finished trials."""
    for score in (0.6, 0.7):
        number = begin_trial(journal)
        journal.record(number, evaluation(1, 50, score), last=True)
        journal.finish(number, "complete")
    journal.close()
    return folder / JOURNAL


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def message(folder: Path) -> str:
    """Return the error of a reader, which equals that of a driver; the driver's lock is released."""
    messages = []
    for write in (False, True, True):
        with pytest.raises(AutorankError) as error:
            Journal.open(folder, write=write)
        messages.append(str(error.value))
    assert len(set(messages)) == 1
    return messages[0]


def test_every_line_that_is_missing_from_the_middle_is_noticed(path: Path, folder: Path) -> None:
    lines = lines_of(path)
    for missing in range(len(lines) - 1):
        path.write_text("".join(lines[:missing] + lines[missing + 1 :]))
        assert f"is damaged at line {missing + 1}: the line was written as line {missing + 2}," in message(folder)
    path.write_text("".join(lines[:-1]))  # as after a crash: the trial is not finished
    assert [trial.state for trial in Journal.open(folder).trials()] == ["complete", "running"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ('{"op_code": 99}\n', "unknown operation 99"),
        ('{"op_code": \n', "not an entry of a journal"),
        ("[1]\n", "not an entry of a journal"),
        ("{}\n", "not an entry of a journal"),
        ("\0\0\0\n", "not an entry of a journal"),
        ("\n", "not an entry of a journal"),
    ],
)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_damaged_line_is_named_and_the_remedy_works(
    path: Path, folder: Path, damage: str, reason: str, at_the_end: bool
) -> None:
    lines = lines_of(path)
    second = next(n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 4 and n > 8)
    index = len(lines) - 1 if at_the_end else second
    path.write_text("".join([*lines[:index], damage, *lines[index + 1 :]]))
    text = message(folder)
    assert f"{path} is damaged at line {index + 1}: " in text and reason in text
    command = re.search(r"\((head .*?)\)\.", text)
    assert command is not None
    subprocess.run(command[1], shell=True, check=True, cwd=folder)
    assert lines_of(path) == lines[:index]
    states = [trial.state for trial in Journal.open(folder).trials()]
    assert states == (["complete", "running"] if at_the_end else ["complete"])
    with Journal.open(folder, write=True) as journal:
        assert begin_trial(journal) == len(states)


def test_a_journal_without_its_beginning(path: Path, folder: Path) -> None:
    first = lines_of(path)[0]
    for content, reason in (("", "it is empty"), (first, "it has no 'spec'")):
        path.write_text(content)
        text = message(folder)
        assert f"{path} cannot be read: {reason}. Restore the file from a backup, or remove {folder} and" in text


def test_the_remedy_for_a_path_with_spaces_and_for_the_first_lines(journal, tmp_path: Path) -> None:
    folder = tmp_path / "my searches" / "first"
    shutil.copytree(journal.folder, folder)
    path = folder / JOURNAL
    lines = lines_of(path)
    path.write_text("".join([*lines[:5], "damage\n"]))
    assert f"(head -n 5 '{path}' > part && mv part '{path}')" in message(folder)
    path.write_text("".join([*lines[:2], "damage\n"]))
    assert f"from a backup, or remove {folder} and start the search again" in message(folder)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r'"score":0\.[0-9]+', '"score":null'),
        (r'"score":0\.[0-9]+', '"score":"0.5"'),
        (r'"adapter_params":[0-9]+', '"adapter_params":[1]'),
        (r'"step":[0-9]+', '"step":null'),
        (r'"reference":\[[^]]*\]', '"reference":"x"'),
        (r'"reference":\[[^]]*\]', '"reference":[1]'),
        (r'"reference":\[[^]]*\]', '"reference":["a","b"]'),
        (r'"reference":\[[^]]*\]', '"reference":[0,0]'),
        (r'"reference":\[[^]]*\]', '"reference":[1000,1.0]'),
        (r'"created":"[^"]*"', '"options":"x"'),
        (r'"created":"[^"]*"', '"options":{},"created":"x"'),
        (r'"created":"[^"]*"', '"confirmed:0:1:10:7":null'),
        (r'"created":"[^"]*"', '"confirmed:0:1:10:7":{"score":"x"}'),
    ],
)
def test_values_of_other_types_are_refused(path: Path, folder: Path, pattern: str, value: str) -> None:
    text, count = re.subn(pattern, value, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)
    assert "cannot be read: " in message(folder)


def test_lines_that_optuna_writes_are_accepted(path: Path, folder: Path) -> None:
    backend = JournalFileBackend(str(path))
    backend.append_logs([{"op_code": 3, "worker_id": "other", "study_id": 0, "system_attr": {"note": "seen"}}])
    with Journal.open(folder, write=True) as journal:
        assert begin_trial(journal) == 2
    assert len(Journal.open(folder).trials()) == 3
    assert [json.loads(line).get("line", 0) for line in lines_of(path)[-2:]] == [0, len(lines_of(path))]


def test_a_line_written_in_spite_of_an_error_is_counted(journal, folder, monkeypatch) -> None:
    number = begin_trial(journal)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("input/output error")))
        with pytest.raises(OSError, match="input/output"):
            journal.note(number, retries=1)
    journal.finish(number, "failed", "the disk failed")
    assert Journal.open(folder).trials() == journal.trials()
