"""The conversion to autocast's type, which is shared by layers with the same input."""

from __future__ import annotations

import torch
from torch import nn

from autorank.modeling import adapters
from autorank.modeling.layers.adapted_linear import InputConversion
from autorank.modeling.layers.lora_layer import LowRankUpdate


def test_an_input_is_converted_once_and_again_after_a_change_in_place() -> None:
    x, convert = torch.ones(2, 3), InputConversion()
    with torch.autocast("cpu", torch.bfloat16):
        first = convert(x)
        assert convert(x) is first
        x.add_(1.0)
        assert torch.equal(convert(x), torch.full((2, 3), 2.0, dtype=torch.bfloat16))
        with torch.inference_mode():
            assert convert(torch.ones(2)).dtype == torch.bfloat16
    assert convert(x) is x


def test_adapted_layers_of_one_parent_share_the_conversion() -> None:
    def layers() -> nn.ModuleDict:
        return nn.ModuleDict({"query": nn.Linear(3, 3), "value": nn.Linear(3, 3)})

    model = nn.ModuleDict({"first": layers(), "second": layers()})
    for name in ("first.query", "first.value", "second.query"):
        adapters.attach(model, name, LowRankUpdate.lora(3, 3, 1, 1, torch.Generator()))
    query, value, second_query = (adapters.adapted(model)[name].convert for name in adapters.adapted(model))
    assert query is value and query is not second_query
