"""The conversion to autocast's type, which is shared by layers with the same input."""

from __future__ import annotations

import torch

from autorank.modeling.layers.adapted_linear import converted


def test_an_input_is_converted_once_and_again_after_a_change_in_place() -> None:
    x = torch.ones(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        first = converted(x)
        assert converted(x) is first
        x.add_(1.0)
        assert torch.equal(converted(x), torch.full((2, 3), 2.0, dtype=torch.bfloat16))
        with torch.inference_mode():
            assert converted(torch.ones(2)).dtype == torch.bfloat16
    assert converted(x) is x
