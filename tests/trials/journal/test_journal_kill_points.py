"""A driver that dies between the writes of an evaluation with slices: nothing is lost, nothing is stored twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autorank.tasks.metrics.outcomes import Outcomes, pack, unpack
from autorank.training.evaluation import Evaluation
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL, JournalFile
from autorank.trials.statistics import predictions
from tests.trials.journals import begin_trial
from tests.trials.trial_factories import sliced

SCORES = (0.9, 0.4, 0.55)  # scores of the adapter and its slices


class Killed(BaseException):
    """The driver dies at this point."""


def evaluation() -> Evaluation:
    models = [Outcomes("mean", np.full((3, 1), score), np.zeros((3, 0), int), (3,)) for score in SCORES]
    return sliced(10, 88, 0.9, (20, 0.4), (38, 0.55), predictions=pack(models))


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, after: bool) -> None:
    """Let the driver die before or after a certain call of a function."""
    function: Callable[..., object] = getattr(owner, name)
    calls = []

    def replacement(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == call and not after:
            raise Killed
        result = function(*arguments, **options)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, replacement)


def content(folder: Path) -> tuple[object, ...]:
    """Return what a reader finds: evaluations with slices, the front, predictions, the number of evaluation lines."""
    snapshot = Journal.open(folder).snapshot()
    outcomes = {file.name: len(unpack(file.read_bytes())) for file in (folder / predictions.FOLDER).glob("*")}
    lines = (folder / JOURNAL).read_bytes().count(b"evaluation:")
    return snapshot.trials[0].evaluations, [point.key for point in snapshot.points], outcomes, lines


@pytest.mark.parametrize(
    ("owner", "name", "call", "after"),
    [
        (JournalFile, "append_logs", 1, False),  # before the names of layers
        (predictions, "write", 1, False),
        (predictions, "write", 1, True),
        (JournalFile, "append_logs", 2, False),  # before the line of the evaluation
        (JournalFile, "append_logs", 2, True),
    ],
)
def test_an_evaluation_is_stored_once(
    journal: Journal, folder: Path, owner: object, name: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begin_trial(journal)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, owner, name, call, after)
        journal.record(number, evaluation())
    journal.close()
    with Journal.open(folder, write=True) as reopened:  # the evaluation is reported again, from the checkpoint
        predictions.delete_unneeded(folder, reopened.snapshot())  # as a session does at its start
        is_stored = reopened.trial(number).step == 10
        assert reopened.record(number, evaluation()) is not is_stored
        predictions.delete_unneeded(folder, reopened.snapshot())
    evaluations, points, outcomes, lines = content(folder)
    assert evaluations == (evaluation(),)
    assert points == [(0, 10, 20), (0, 10, 38), (0, 10, 88)]
    assert outcomes == {"0-10.npz": len(SCORES)} and lines == 1
