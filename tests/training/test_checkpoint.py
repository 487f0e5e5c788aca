"""A checkpoint is read with torch's safe loader, whatever its evaluations contain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun

EVALUATION = Evaluation(
    step=1, epoch=0.5, score=0.5, metrics={"accuracy": 0.5}, train_loss=0.7, adapter_params=8, nonzero_params=8,
    trainable_params=9, head_params=1, ranks={"query": 1}, seconds=1.0, peak_memory=0,
)  # fmt: skip


class Run:
    """Stands in for a training run."""

    state: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"step": 1}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


@pytest.mark.parametrize("predictions", [b"", b"\x00packed\xff"])
def test_evaluations_are_restored(predictions: bytes, tmp_path: Path) -> None:
    run, evaluation = cast(TrainingRun, Run()), replace(EVALUATION, predictions=predictions)
    checkpoint.save(tmp_path / "run.pt", run, [evaluation])
    (restored,) = checkpoint.load(tmp_path / "run.pt", run)
    assert restored == evaluation and restored.predictions == predictions
    assert run.state == {"step": 1}  # type: ignore[attr-defined]


def test_a_missing_checkpoint_is_an_empty_one(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "run.pt", cast(TrainingRun, Run())) == []
