"""Adapters for question answering, loaded by PEFT and transformers with the code of their model card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.export.cards import model_card
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from autorank.trials.point import Point
from tests import tiny_models


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(("architecture", "form"), [("roberta", "PEFT adapter"), ("deberta-v2", "merged model")])
def test_the_cards_code_gives_the_same_logits(architecture: str, form: model_card.Form, tmp_path: Path) -> None:
    spec = TrainSpec(
        task=TaskSpec(name="squad_v1", data=tiny_models.questions_folder(tmp_path / "data", 32), max_length=32),
        model=tiny_models.model(architecture, tmp_path / "model"),
        method="lora",
        settings={"rank": 2, "learning_rate": 2e-2},
        training=TrainingSpec(steps=4, batch_size=8),
    )
    run = TrainingRun(spec)
    list(run)
    adapter, folder = tmp_path / "adapter.safetensors", tmp_path / "out"
    run.save_adapter(adapter)
    restored, origin = adapter_file.load(adapter)
    ids = torch.randint(4, 40, (3, 11))
    with torch.no_grad():
        expected = restored.model(input_ids=ids)

    point = Point(0, 4, 1000, 0.5, {}, 1000, {"f1": 0.5}, "lora")
    text = model_card.model_card(point, spec, origin, form)
    assert "| f1 | 0.5000 |" in text and "--task squad_v1 --data" in text
    (write_merged if form == "merged model" else write_peft)(adapter, folder)
    if form == "PEFT adapter":
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["task_type"] == "QUESTION_ANS" and set(config["modules_to_save"]) == {"qa_outputs"}
    code = text.split("```python\n")[1].split("```")[0]
    assert "AutoModelForQuestionAnswering" in code
    names: dict[str, Any] = {}
    exec(re.sub("path/to/(adapter|model)", str(folder), code), names)
    with torch.no_grad():
        actual = names["model"].eval()(input_ids=ids)
    torch.testing.assert_close(actual.start_logits, expected.start_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.end_logits, expected.end_logits, rtol=0, atol=1e-5)
