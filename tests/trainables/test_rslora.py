"""rsLoRA against PEFT's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from autorank.methods import configure, find
from autorank.modeling import base_model
from tests import tiny_models
from tests.trainables import peft_comparison, reference_training
from tests.trainables.conformance_runs import open_run

pytestmark = pytest.mark.usefixtures("own_cache")


def test_training_equals_pefts(tmp_path: Path) -> None:
    from peft import LoraConfig

    config = {"r": 3, "lora_alpha": 8, "lora_dropout": 0.2, "use_rslora": True}
    settings = {"rank": 3, "alpha": 8, "dropout": 0.2}
    run, peft_training = peft_comparison.train(
        reference_training.write(tmp_path), "rslora", settings, lambda names: LoraConfig(**config, target_modules=names)
    )
    for name, update in reference_training.updates(run).items():
        assert update.scale == 8 / 3**0.5 == peft_training.layers[name].scaling["default"]
        torch.testing.assert_close(update.A, peft_training.layers[name].lora_A["default"].weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(update.B, peft_training.layers[name].lora_B["default"].weight, rtol=1e-3, atol=1e-4)


def test_layers_of_a_rank_map_have_their_own_scale(tmp_path: Path) -> None:
    reference_training.write(tmp_path)
    names = list(
        reference_training.updates(open_run(reference_training.spec(tmp_path, "rslora", {"rank": 1}, steps=2)))
    )
    rank_map = {name: 1 + i % 3 for i, name in enumerate(names)}
    (tmp_path / "ranks.json").write_text(json.dumps(rank_map))
    retrain_spec = reference_training.spec(tmp_path, "rslora", {"retrain": str(tmp_path / "ranks.json")}, steps=2)
    updates = reference_training.updates(open_run(retrain_spec))
    assert {name: update.scale for name, update in updates.items()} == {
        name: 16 / r**0.5 for name, r in rank_map.items()
    }


def test_parameters_equal_loras(tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "model"))
    rslora, lora = (configure(name, {"rank": 3, "targets": "all-linear"}).config for name in ("rslora", "lora"))
    assert find("rslora").adapter_params(rslora, model) == find("lora").adapter_params(lora, model)
