"""4-bit base models: refused where unsupported, and the settings passed to bitsandbytes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import base_model
from autorank.modeling.loading import quantization
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = TrainSpec(task=TaskSpec(name="demo"), method="lora", training=TrainingSpec(quantize="4bit"))
    with pytest.raises(AutorankError, match="--quantize 4bit needs a GPU"):
        TrainingRun(spec)


def test_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AutorankError, match="pip install bitsandbytes"):
        quantization.check()


def test_settings_of_4_bit_quantization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "check", lambda: None)
    config = quantization.four_bit(torch.bfloat16, ("score",)).to_dict()
    assert config["bnb_4bit_quant_type"] == "nf4" and config["bnb_4bit_use_double_quant"]
    assert config["llm_int8_skip_modules"] == ["score"] and config["bnb_4bit_compute_dtype"] == "bfloat16"


def test_quantized_weights_are_not_trained(tmp_path: Path) -> None:
    loaded = base_model.load(tiny_models.model("bert", tmp_path / "m"), 2)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    loaded.model.get_parameter(name).data = torch.zeros(4, 1, dtype=torch.uint8)
    with pytest.raises(AutorankError, match="is quantized and cannot be trained"):
        loaded.unfreeze([name])
