"""Houlsby adapters: sizes and start. What they compute is in tests/modeling/layers/test_bottleneck.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.methods import configure, find
from autorank.modeling import adapters
from tests import tiny
from tests.trainables.test_totals import deberta, roberta
from tests.trainables.trained import spec, start


@pytest.mark.parametrize(("size", "total"), [(8, 313_536), (16, 608_640), (32, 1_198_848)])
def test_sizes_on_base_models(size: int, total: int) -> None:
    """24 bottlenecks of 2 · 768 · h + h + 768."""
    config = configure("houlsby", {"size": size}).config
    with torch.device("meta"):
        for model in (deberta(), roberta()):
            assert find("houlsby").adapter_params(config, model) == (total, total)


def test_the_start_is_nearly_the_base(tmp_path: Path) -> None:
    tiny.model("bert", tmp_path / "model")
    (tmp_path / "data").mkdir()
    tiny.pairs_file(tmp_path / "data" / "train.jsonl", 16, seed=1)
    tiny.pairs_file(tmp_path / "data" / "validation.jsonl", 8, seed=2)
    run = start(spec(tmp_path, "houlsby"), tmp_path)
    run._open()
    model = run._base.model.eval()
    ids = torch.arange(4, 20).view(2, 8)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        run._start()
        ours = model(input_ids=ids).logits
    found = adapters.bottlenecked(model)
    assert list(found) == [
        f"bert.encoder.layer.{i}.{place}" for i in range(tiny.LAYERS) for place in ("attention.output", "output")
    ]
    assert all(place.bottleneck.activation == "silu" and not place.twice for place in found.values())
    assert not torch.equal(ours, plain)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-3)
