"""Every architecture of the table in docs/models.md, from a training to plain PEFT and a merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapters
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import architectures, tiny_models

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HEADER = "| architecture | form | tested with | `attention-qv` | `ffn` |"
# the other architectures belong to families that test_families.py tests in more detail
cases = [
    name if name in ("roberta", "qwen3_moe", "gemma3", "granite") else pytest.param(name, marks=pytest.mark.long)
    for name in architectures.ALL
]


@torch.no_grad()
def logits(model: torch.nn.Module, generates: bool) -> torch.Tensor:
    ids = torch.tensor([[2, 10, 11, 12, 13, 3], [2, 20, 21, 22, 23, 3]])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if generates and model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    values: torch.Tensor = model.eval()(**inputs).logits
    return values


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", cases)
def test_training_export_peft_and_merged_model_agree(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    architecture = architectures.architecture(name)
    generates = architecture.head.generates
    model = architecture.save(tmp_path / "model")
    tiny_models.pairs_folder(tmp_path, 8, 8)
    columns = {"prompt": "left", "completion": "right"} if generates else {"text": ("left", "right"), "label": "label"}
    run = TrainingRun(
        TrainSpec(
            task=TaskSpec(name="pairs", data=tmp_path, **columns), model=model, method="lora",
            settings={"targets": "all-linear", "rank": 2, "learning_rate": 0.05},
            training=TrainingSpec(steps=2, batch_size=4, slices="off"),
        )
    )  # fmt: skip
    assert [evaluation.step for evaluation in run][-1] == 2
    trained = run._base.model
    layers = adapters.adapted(trained)
    assert all(layer.update.B.any() for layer in layers.values())  # every adapted layer had a gradient
    expected = logits(trained, generates)
    run.save_adapter(tmp_path / "adapter")

    options = {} if generates else {"num_labels": 2}
    base = architecture.auto_class().from_pretrained(model, pad_token_id=trained.config.pad_token_id, **options)
    assert (logits(base, generates) - expected).abs().max() > 1e-3
    write_peft(tmp_path / "adapter", tmp_path / "peft")
    wrapped = PeftModel.from_pretrained(base, tmp_path / "peft")
    torch.testing.assert_close(logits(wrapped, generates), expected, rtol=1e-4, atol=1e-4)
    assert {name.removesuffix(".lora_A") for name, _ in base.named_modules() if name.endswith(".lora_A")} == set(layers)
    write_merged(tmp_path / "adapter", tmp_path / "merged")
    merged = architecture.auto_class().from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged, generates), expected, rtol=1e-4, atol=1e-4)


def test_the_table_of_the_page_is_the_matrix() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(HEADER) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    assert lines[start:end] == architectures.table()
