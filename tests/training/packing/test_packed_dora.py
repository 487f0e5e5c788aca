"""DoRA lanes with dropout, whose formula also has the frozen product of the input that is not dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.training.packing.pack import Pack
from autorank.training.packing.packed_linear import PackedLinear
from tests.trainables.conformance_runs import cache
from tests.training.packing.test_architectures import specs
from tests.training.packing.test_pack import assert_equal, finish, train_alone

KEEP_FACTOR = 0.9  # dropout multiplies by this factor instead of a random mask


def apply_dropout(layer: AdaptedLinear, x: Tensor) -> Tensor:
    return KEEP_FACTOR * x if layer.training and layer.dropout else x


def apply_packed_dropout(layer: PackedLinear, x: Tensor) -> Tensor:
    drops = [
        lane is not None and k not in layer.apart and lane.training and lane.dropout > 0
        for k, lane in enumerate(layer.current)
    ]
    factors = torch.tensor([KEEP_FACTOR if drop else 1.0 for drop in drops])
    return (x.view(len(drops), -1) * factors[:, None]).view(x.shape) if any(drops) else x


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    "lane_dropouts",
    [[("dora", 0.5), ("dora", 0.5)], [("dora", 0.5), ("dora", 0.0)], [("dora", 0.5), ("lora", 0.5), ("lora", 0.0)]],
)
def test_lanes_with_dropout_equal_runs_alone(
    lane_dropouts: list[tuple[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdaptedLinear, "_dropped", apply_dropout)
    monkeypatch.setattr(PackedLinear, "_dropped", apply_packed_dropout)
    methods: dict[str, dict[str, Any]] = {"dora": {"rank": 2}, "lora": {"rank": 3}}
    spec_by_method = dict(zip(methods, specs(tmp_path, "bert", "labels", methods), strict=True))
    settings = [spec_by_method[name].settings | {"dropout": rate} for name, rate in lane_dropouts]
    train_specs = [
        spec_by_method[name].model_copy(update={"settings": values})
        for (name, _), values in zip(lane_dropouts, settings, strict=True)
    ]
    pack = Pack(cache())
    lanes = [pack.join(spec) for spec in train_specs]
    results = finish(pack)
    for lane, spec in zip(lanes, train_specs, strict=True):
        assert_equal(lane, results[lane], train_alone(spec))
