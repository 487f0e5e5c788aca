"""The printed output of a single training."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from autorank.display.train_display import follow
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_plan_is_printed_first(tmp_path: Path) -> None:
    tiny_models.pairs_folder(tmp_path / "data", 60, 20)
    spec = TrainSpec(
        task=TaskSpec(name="mine", data=tmp_path / "data", text=("left", "right"), label="label", max_length=9),
        model=tiny_models.model("bert", tmp_path / "tiny-bert"), method="lora", settings={"rank": 2},
        training=TrainingSpec(epochs=2, batch_size=16),
    )  # fmt: skip
    output = io.StringIO()
    run = TrainingRun(spec)
    warnings: list[str] = []
    _, evaluations = follow(Console(file=output, width=120), run, tmp_path / "best.safetensors", warnings.append)
    first, labels, plan, header, *table = output.getvalue().splitlines()
    assert first == "lora on mine, base model tiny-bert: loading data and model"
    assert labels == "label: 2 classes: '0' 50%, '1' 50%"
    trained = 2 * 2 * tiny_models.HIDDEN * 2 * tiny_models.LAYERS + evaluations[0].head_params
    assert plan == f"60 training and 20 validation examples; 8 steps; {trained:,} trainable parameters; cpu, fp32"
    assert evaluations[0].trainable_params == trained and evaluations[-1].step == 8
    (warning,) = warnings
    assert warning.startswith("Texts are truncated to 9 tokens") and "of 60 (train)" in warning
    assert header.split()[:2] == ["epoch", "step"] and table[-1].startswith("best: step")


def test_starting_twice_changes_nothing(tmp_path: Path) -> None:
    tiny_models.pairs_file(tmp_path / "pairs.jsonl", 60)
    spec = TrainSpec(
        task=TaskSpec(name="mine", data=tmp_path / "pairs.jsonl", text=("left", "right"), label="label"),
        model=tiny_models.model("bert", tmp_path / "model"), method="lora", training=TrainingSpec(steps=4),
    )  # fmt: skip
    scores = []
    for starts in range(3):
        run = TrainingRun(spec)
        for _ in range(starts):
            run.start()
            assert run.summary().steps == 4
        scores.append([(evaluation.train_loss, evaluation.score) for evaluation in run])
    assert scores[0] == scores[1] == scores[2]
