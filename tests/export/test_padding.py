"""Padded PEFT adapters: suffixes of names that match the adapted modules only, and zero factors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.errors import AutorankError
from autorank.export import padding
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, adapters, base_model, target_modules
from autorank.modeling.layers import dora
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests import tiny_models


def test_suffixes_are_short_and_match_no_other_module(tmp_path: Path) -> None:
    model = base_model.load(tiny_models.model("roberta", tmp_path), outputs=2).model
    assert padding.shortest_suffixes(model, target_modules.find(model, "query,value")) == ["query", "value"]
    # `dense` is in the head too, and `output.dense` in the attention
    assert padding.shortest_suffixes(model, target_modules.find(model, "intermediate.dense")) == ["intermediate.dense"]
    first = "roberta.encoder.layer.0.attention.self.query"
    assert padding.shortest_suffixes(model, [first]) == ["0.attention.self.query"]
    ffn = [
        name for name in target_modules.linear_layers(model) if target_modules.kind(name).endswith("layer.output.dense")
    ]
    assert padding.shortest_suffixes(model, ffn) == sorted(".".join(name.split(".")[-3:]) for name in ffn)


def test_layers_without_updates_get_zero_factors(tmp_path: Path) -> None:
    model = base_model.load(tiny_models.model("bert", tmp_path), outputs=2).model
    name = "bert.encoder.layer.1.attention.self.query"
    update = LowRankUpdate.lora(tiny_models.HIDDEN, tiny_models.HIDDEN, 2, 6, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(update.B)
    factors = padding.pad_factors(model, {name: update})
    assert set(factors) == {f"bert.encoder.layer.{i}.attention.self.query" for i in range(tiny_models.LAYERS)}
    for layer, (A, B) in factors.items():
        expected = update.delta_weight() if layer == name else torch.zeros(tiny_models.HIDDEN, tiny_models.HIDDEN)
        torch.testing.assert_close(B @ A, expected)


def test_dora_updates_are_not_padded(tmp_path: Path) -> None:
    loaded = base_model.load(tiny_models.model("bert", tmp_path / "model"), outputs=2)
    name = "bert.encoder.layer.1.attention.self.query"
    update = LowRankUpdate.lora(tiny_models.HIDDEN, tiny_models.HIDDEN, 2, 6, torch.Generator().manual_seed(0))
    update.m = torch.nn.Parameter(dora.squared_row_norms(loaded.model.get_submodule(name)).sqrt())
    adapters.attach(loaded.model, name, update)
    origin = adapter_file.Origin(str(tmp_path / "model"), 2, (), 0)
    adapter_file.save(tmp_path / "a.safetensors", loaded, origin)
    with pytest.raises(AutorankError, match="Omit --pad"):
        write_peft(tmp_path / "a.safetensors", tmp_path / "out", pad=True)
