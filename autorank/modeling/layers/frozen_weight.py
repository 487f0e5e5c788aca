"""What a frozen linear layer multiplies by: read where its weight is plain numbers, else seen from what it gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autorank.modeling.target_modules import features

RAISED = 64.0  # inputs are raised by this, so that in 16 bits a bias does not round the product away


@torch.no_grad()
def matrix(layer: nn.Module) -> Tensor:
    """W0, out x in, in float32 at least; a new tensor or a view of the layer's, not to be written to."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    plain = type(weight) is nn.Parameter and weight.is_floating_point()  # quantised ones are classes of their own
    if plain and isinstance(layer, nn.Linear | Conv1D):
        read = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
        return read.T if isinstance(layer, Conv1D) else read
    return product(layer, torch.eye(features(layer)[0], device=weight.device)).T


@torch.no_grad()
def product(layer: nn.Module, x: Tensor) -> Tensor:
    """W0 x from a call of the layer, its bias taken back, in float32 at least. x: n x in -> n x out."""
    y: Tensor = layer(x * RAISED)
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    bias = layer.bias
    return (y - bias if isinstance(bias, Tensor) else y) / RAISED
