"""Pfeiffer adapters: sizes and form. tests/modeling/layers/test_bottleneck.py tests what they compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.methods import configure, find
from autorank.modeling import adapters, base_model
from tests import tiny_models
from tests.trainables.base_models import deberta, roberta
from tests.trainables.conformance_runs import spec, start


@pytest.mark.parametrize(("size", "total"), [(16, 304_320), (32, 599_424), (64, 1_189_632)])
def test_sizes_on_base_models(size: int, total: int) -> None:
    """12 bottlenecks of 2 · 768 · h + h + 768."""
    config = configure("pfeiffer", {"size": size}).config
    for model in (deberta(), roberta()):
        assert find("pfeiffer").adapter_params(config, model) == (total, total)


@pytest.mark.parametrize(
    ("architecture", "name_pattern", "twice"),
    [
        ("bert", "bert.encoder.layer.{}.output", True),
        ("deberta-v2", "deberta.encoder.layer.{}.output", True),
        ("llama", "model.layers.{}.mlp.down_proj", False),
        ("gpt2", "transformer.h.{}.mlp.c_proj", False),
    ],
)
def test_form_by_architecture(architecture: str, name_pattern: str, twice: bool, tmp_path: Path) -> None:
    """Models with a LayerNorm after the feed-forward layer apply it before the bottleneck too; others do not."""
    tiny_models.model(architecture, tmp_path / "model")
    tiny_models.pairs_folder(tmp_path / "data", 16, 8)
    run = start(spec(tmp_path, "pfeiffer", steps=2), tmp_path)
    evaluations = list(run)
    layers = adapters.bottlenecked(run._base.model)
    assert list(layers) == [name_pattern.format(i) for i in range(tiny_models.LAYERS)]
    assert all(layer.twice == twice and layer.bottleneck.activation == "relu" for layer in layers.values())
    (total, _) = find("pfeiffer").adapter_params(run._method.config, base_model.meta_model(str(tmp_path / "model")))
    assert [e.adapter_params for e in evaluations] == [total, total] and evaluations[-1].ranks == {}
