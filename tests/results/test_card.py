"""Exports of points without low-rank updates; those of LoRA are tried through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from autorank.errors import AutorankError
from autorank.results.card import command, export_point
from autorank.results.front import Point
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from autorank.training.workshop import Workshop
from tests import tiny


def exported(method: str, folder: Path, merged: bool) -> tuple[str, torch.Tensor]:
    """As what a run's adapter was written to `out`, and the logits of the run."""
    tiny.model("bert", folder / "model")
    (folder / "data").mkdir()
    tiny.pairs_file(folder / "data" / "train.jsonl", 16, seed=1)
    tiny.pairs_file(folder / "data" / "validation.jsonl", 8, seed=2)
    spec = TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "model"), method=method, settings={"learning_rate": 1e-2},
        training=TrainingSpec(steps=2, batch_size=8, precision="fp32"),
    )  # fmt: skip
    run = TrainingRun(spec, Workshop("cpu", folder / "probes"))
    (evaluation,) = run
    run.save_adapter(folder / "a.safetensors")
    point = Point(
        0, 2, evaluation.adapter_params, evaluation.score, dict(spec.settings), evaluation.nonzero_params,
        evaluation.metrics,
    )  # fmt: skip
    form = export_point(folder / "a.safetensors", folder / "out", point, spec, merged)
    run._base.model.eval()
    with torch.no_grad():
        return form, run._base.model(input_ids=torch.arange(4, 20).view(2, 8)).logits


def by_the_card(folder: Path) -> torch.Tensor:
    """Logits of the model that the card's own lines load."""
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("this folder", str(folder))
    names: dict[str, object] = {}
    exec(code, names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(4, 20).view(2, 8)).logits
    return logits


@pytest.mark.parametrize("method", ["full", "bitfit", "houlsby", "pfeiffer"])
def test_what_peft_cannot_hold_is_written_in_our_format(method: str, tmp_path: Path) -> None:
    form, expected = exported(method, tmp_path, merged=False)
    assert form == "autorank adapter"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "adapter.safetensors"]
    about = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert about["library_name"] == "autorank" and about["tags"] == ["autorank"]
    assert torch.equal(by_the_card(tmp_path / "out"), expected)


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_merged_is_a_plain_model(method: str, tmp_path: Path) -> None:
    form, expected = exported(method, tmp_path, merged=True)
    assert form == "merged model"
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=torch.arange(4, 20).view(2, 8)).logits, expected)


def test_bottlenecks_are_not_merged(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match="cannot be merged"):
        exported("pfeiffer", tmp_path, merged=True)
    assert not (tmp_path / "out").exists()


def test_the_command_has_every_option_of_the_training() -> None:
    training = TrainingSpec(steps=2, warmup_ratio=0.2, weight_decay=0.0, gradient_checkpointing=True, accumulate=4)
    task = TaskSpec(name="gsm8k", tune_split=0.1, chat=False)
    assert command(TrainSpec(task=task, method="lora", training=training), {"rank": 2}) == (
        "autorank train --method lora --task gsm8k --no-chat --tune-split 0.1 --steps 2 --accumulate 4 "
        "--warmup-ratio 0.2 --weight-decay 0.0 --gradient-checkpointing --seed 0 --set rank=2"
    )
