"""The weight matrix of a frozen linear layer: read if it is a plain tensor, otherwise computed by calling the layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autorank.modeling.target_modules import features

INPUT_SCALE = 64.0  # factor of the inputs, so that in 16 bits the product is not lost by rounding next to the bias


@torch.no_grad()
def matrix(layer: nn.Module) -> Tensor:
    """The weight W0, out x in, in at least float32. It may be a view of the layer's weight: do not modify it."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    unquantized = type(weight) is nn.Parameter and weight.is_floating_point()  # quantized weights have other classes
    if unquantized and isinstance(layer, nn.Linear | Conv1D):
        values = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
        return values.T if isinstance(layer, Conv1D) else values
    return product(layer, torch.eye(features(layer)[0], device=weight.device)).T


@torch.no_grad()
def product(layer: nn.Module, x: Tensor) -> Tensor:
    """W0 x without the bias, by a call of the layer unless its weight is plain. x: n x in -> n x out.

    The type is at least float32 if the layer is called, else that of the product.
    """
    # T5 in fp16 has layers in float32
    if type(layer) is nn.Linear and layer.weight.dtype in (x.dtype, torch.float32):
        return F.linear(x.to(layer.weight.dtype), layer.weight)
    y: Tensor = layer(x * INPUT_SCALE)
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    bias = layer.bias
    return (y - bias if isinstance(bias, Tensor) else y) / INPUT_SCALE
