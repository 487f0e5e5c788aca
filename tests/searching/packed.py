"""Searches whose results do not depend on how many trials train at once, and how two of them are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autorank.spec import MethodSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot
from tests.trainables.trained import write_model, write_pairs

RATES = {"type": "categorical", "choices": [1e-2, 3e-2, 1e30]}  # the last diverges
LORA = MethodSpec(
    method="lora",
    settings={"dropout": 0.0},
    space={"rank": {"type": "int", "low": 1, "high": 4}, "learning_rate": RATES},
)
BITFIT = MethodSpec(method="bitfit", space={"learning_rate": RATES})


def write(folder: Path) -> None:
    """A model without dropout, and data."""
    write_model(folder / "plain", dropout=0.0)
    write_pairs(folder / "data", 60, 20)


def spec(folder: Path, name: str, *methods: MethodSpec, **training: Any) -> SearchSpec:
    """A search with random settings and no early stopping."""
    values = {"steps": 12, "batch_size": 8, "eval_every": 4, "precision": "fp32"} | training
    return SearchSpec(
        name=name, task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "plain"), methods=methods, sampler="random", halving=None,
        training=TrainingSpec(**values),
    )  # fmt: skip


def assert_equal(ours: Snapshot, theirs: Snapshot) -> None:
    """Trials are equal, scores to rounding."""
    assert [_outcome(trial) for trial in ours.trials] == [_outcome(trial) for trial in theirs.trials]
    for our_trial, their_trial in zip(ours.trials, theirs.trials, strict=True):
        for our, their in zip(our_trial.evaluations, their_trial.evaluations, strict=True):
            assert our.score == pytest.approx(their.score, abs=1e-4)
            assert our.train_loss == pytest.approx(their.train_loss, rel=1e-4)


def _outcome(trial: TrialRecord) -> tuple[Any, ...]:
    evaluations = [(e.step, e.adapter_params, len(e.slices)) for e in trial.evaluations]
    return trial.method, trial.settings, trial.state, (trial.reason or "")[:20], trial.retries, evaluations
