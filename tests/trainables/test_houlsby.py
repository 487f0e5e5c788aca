"""Houlsby adapters: sizes and initial values. tests/modeling/layers/test_bottleneck.py tests what they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.methods import configure, find
from autorank.modeling import adapters
from tests import tiny_models
from tests.trainables.base_models import deberta, roberta
from tests.trainables.conformance_runs import spec, start


@pytest.mark.parametrize(("size", "total"), [(8, 313_536), (16, 608_640), (32, 1_198_848)])
def test_sizes_on_base_models(size: int, total: int) -> None:
    """24 bottlenecks of 2 · 768 · h + h + 768."""
    config = configure("houlsby", {"size": size}).config
    for model in (deberta(), roberta()):
        assert find("houlsby").adapter_params(config, model) == (total, total)


def test_the_start_is_nearly_the_base(tmp_path: Path) -> None:
    tiny_models.model("bert", tmp_path / "model")
    tiny_models.pairs_folder(tmp_path / "data", 16, 8)
    run = start(spec(tmp_path, "houlsby"), tmp_path)
    run._open()
    model = run._base.model.eval()
    ids = torch.arange(4, 20).view(2, 8)
    with torch.no_grad():
        base_logits = model(input_ids=ids).logits
        run._prepare()
        adapted_logits = model(input_ids=ids).logits
    layers = adapters.bottlenecked(model)
    assert list(layers) == [
        f"bert.encoder.layer.{i}.{suffix}"
        for i in range(tiny_models.LAYERS)
        for suffix in ("attention.output", "output")
    ]
    assert all(layer.bottleneck.activation == "silu" and not layer.twice for layer in layers.values())
    assert not torch.equal(adapted_logits, base_logits)
    torch.testing.assert_close(adapted_logits, base_logits, rtol=0, atol=1e-3)
