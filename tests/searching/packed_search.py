"""Searches whose results do not depend on how many trials train at once, and how two of them are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot
from tests import tiny_models
from tests.trainables.conformance_runs import write_model

RATES = {"type": "categorical", "choices": [1e-2, 3e-2, 1e30]}  # the last diverges
LORA = MethodSpec(
    method="lora",
    settings={"dropout": 0.0},
    space={"rank": {"type": "int", "low": 1, "high": 4}, "learning_rate": RATES},
)
BITFIT = MethodSpec(method="bitfit", space={"learning_rate": RATES})


def write(folder: Path) -> None:
    """Write a model without dropout, and data."""
    write_model(folder / "plain", dropout=0.0)
    tiny_models.pairs_folder(folder / "data", 60, 20)


def spec(folder: Path, name: str, *methods: MethodSpec, **training: Any) -> SearchSpec:
    """A search with random settings and no early stopping."""
    values = {"steps": 12, "batch_size": 8, "eval_every": 4, "precision": "fp32"} | training
    return SearchSpec(
        name=name, task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "plain"), methods=methods, sampler="random", halving=None,
        training=TrainingSpec(**values),
    )  # fmt: skip


def assert_equal(actual: Snapshot, expected: Snapshot) -> None:
    """Check that trials are equal; scores may differ by rounding."""
    assert [_outcome(trial) for trial in actual.trials] == [_outcome(trial) for trial in expected.trials]
    for trial, expected_trial in zip(actual.trials, expected.trials, strict=True):
        for evaluation, expected_evaluation in zip(trial.evaluations, expected_trial.evaluations, strict=True):
            assert evaluation.score == pytest.approx(expected_evaluation.score, abs=1e-4)
            assert evaluation.train_loss == pytest.approx(expected_evaluation.train_loss, rel=1e-4)


def _outcome(trial: TrialRecord) -> tuple[Any, ...]:
    evaluations = [(e.step, e.adapter_params, len(e.slices)) for e in trial.evaluations]
    return trial.method, trial.settings, trial.state, (trial.reason or "")[:20], trial.retries, evaluations
