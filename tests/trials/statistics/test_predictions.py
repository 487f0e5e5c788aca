"""Predictions in the directory of a search: written with each evaluation, kept near the fronts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autorank.spec import ObjectivesSpec
from autorank.tasks.metrics.outcomes import Outcomes, pack
from autorank.trials.statistics import predictions
from autorank.trials.statistics.certainty import assess
from autorank.trials.statistics.confirmation_stats import summarize
from tests.trials.journals import begin_trial
from tests.trials.trial_factories import evaluation, sliced


def outcomes(*right: int) -> bytes:
    """Return models with these numbers of right answers to 10 questions."""
    labels = np.zeros((10, 1), int)
    return pack([Outcomes("accuracy", (np.arange(10) >= count)[:, None].astype(int), labels, (10,)) for count in right])


def file_names(journal) -> list[str]:
    return sorted(file.name for file in (journal.folder / predictions.FOLDER).glob("*"))


def test_an_evaluation_s_predictions_are_written_and_read_with_its_slices(journal) -> None:
    begin_trial(journal)
    journal.record(0, replace(sliced(10, 100, 0.9, (20, 0.5), (40, 0.7)), predictions=outcomes(9, 5, 7)))
    journal.record(0, evaluation(20, 100, 0.8))  # without predictions
    assert file_names(journal) == ["0-10.npz"]
    assert not any(e.predictions for e in journal.trial(0).evaluations)  # only on disk
    candidates = predictions.candidates(journal.snapshot())
    assert [(point.adapter_params, point.step) for point, _ in candidates] == [(100, 10), (20, 10), (40, 10)]
    assert [float((o.values == o.reference).mean()) for _, o in candidates] == [0.9, 0.5, 0.7]
    assert predictions.candidates(journal.snapshot(), baseline=True) == []


def test_predictions_nearest_to_the_front_are_kept(journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MAX_KEPT", 3)
    for number, (params, score) in enumerate([(100, 0.9), (100, 0.6), (50, 0.5), (200, 0.89), (10, 0.7)]):
        begin_trial(journal)
        journal.record(number, replace(evaluation(10, params, score), predictions=outcomes(int(10 * score))))
    begin_trial(journal, baseline=True)
    journal.record(5, replace(evaluation(10, 500, 0.1), predictions=outcomes(1)))  # on the baseline's front
    journal.confirm(0, 10, 100, 1000, {"score": 0.9}, outcomes(9))
    journal.confirm(1, 10, 100, 1000, {"score": 0.9}, outcomes(9))
    predictions.delete_unneeded(journal.folder, journal.snapshot())
    assert file_names(journal) == ["0-10-100-1000.npz", "0-10.npz", "4-10.npz", "5-10.npz"]


def test_predictions_beyond_a_limit_are_not_kept(journal) -> None:
    for number, params in enumerate([100, 300]):
        begin_trial(journal)
        journal.record(number, replace(evaluation(10, params, 0.9), predictions=outcomes(9)))
    snapshot = replace(journal.snapshot(), objectives=ObjectivesSpec(max_params=200))
    predictions.delete_unneeded(journal.folder, snapshot)
    assert file_names(journal) == ["0-10.npz"]


def test_damaged_and_missing_files_have_no_predictions(journal, caplog: pytest.LogCaptureFixture) -> None:
    begin_trial(journal)
    journal.record(0, replace(evaluation(10, 100, 0.9), predictions=outcomes(9)))
    file = predictions.predictions_path(journal.folder, 0, 10)
    file.write_bytes(file.read_bytes()[:30])
    assert predictions.candidates(journal.snapshot()) == []
    assert "0-10.npz: damaged predictions" in caplog.text
    assert predictions.read(file.with_name("1-10.npz"), [0.9]) == []


def test_files_with_other_names_are_ignored(journal) -> None:
    """Programs that synchronize directories make copies with such names."""
    begin_trial(journal)
    journal.record(0, replace(evaluation(10, 100, 0.9), predictions=outcomes(9)))
    file = predictions.predictions_path(journal.folder, 0, 10)
    others = ["0-10 2.npz", "0-10 (conflicted copy).npz", "copy of 0-10.npz", "notes.npz", "0-10-100.npz", "0-²0.npz"]
    for name in others:
        file.with_name(name).write_bytes(file.read_bytes())
    assert len(predictions.candidates(journal.snapshot())) == 1
    predictions.delete_unneeded(journal.folder, journal.snapshot())
    assert file_names(journal) == sorted([*others, "0-10.npz"])


def of_shape(values: tuple[int, ...], reference: tuple[int, ...], splits: int, formula: str = "accuracy") -> bytes:
    return pack([Outcomes(formula, np.zeros(values, int), np.zeros(reference, int), (splits,))])


@pytest.mark.parametrize(
    "content",
    [
        outcomes(8),  # another score than the recorded one
        outcomes(9, 9),  # more models
        of_shape((9, 1), (10, 1), 10),
        of_shape((10, 1), (10, 1), 9),
        of_shape((0, 1), (0, 1), 0),
        of_shape((10, 1), (10, 1), 10, "bleu"),
    ],
    ids=["score", "models", "values", "splits", "empty", "columns"],
)
def test_predictions_that_do_not_fit_are_not_used(journal, content: bytes) -> None:
    begin_trial(journal)
    journal.record(0, replace(evaluation(10, 100, 0.9), predictions=content))
    journal.confirm(0, 10, 100, 7, {"score": 0.9}, content)
    assert predictions.candidates(journal.snapshot()) == [] and assess(journal.snapshot()) is None
    (stats,) = summarize(journal.snapshot().points, journal.snapshot()).values()
    assert stats.mean == 0.9 and stats.low is None


def test_a_score_without_a_formula_has_no_intervals_and_is_reported_once(
    journal, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.zeros((10, 1), int)
    for number in range(2):
        begin_trial(journal)
        packed = pack([Outcomes("kappa", labels, labels, (10,))])
        journal.record(number, replace(evaluation(10, 100 * (number + 1), 0.5 + number / 10), predictions=packed))
    assert predictions.candidates(journal.snapshot()) == []
    assert assess(journal.snapshot()) is None
    assert [record.message for record in caplog.records] == [
        f"{journal.folder / predictions.FOLDER}: the score 'kappa' cannot be computed on resampled examples, so there "
        "are no intervals."
    ]
