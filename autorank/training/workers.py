"""Several workers on one run: what each of them computes of a step, added up. One worker needs none of it.

The process group is torch.distributed's default one, made by whoever starts the workers (Ray Train, torchrun).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def count() -> int:
    """Workers of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This worker's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_(values: Tensor) -> Tensor:
    """Add up the workers' values, in place."""
    if count() > 1:
        dist.all_reduce(values)
    return values


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up the workers' gradients, in one flat buffer: adapters are small, and their ranks may change in flight."""
    if count() == 1 or not parameters:  # none: a language model with nothing attached yet, and no head to train
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    sum_(flat)
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
