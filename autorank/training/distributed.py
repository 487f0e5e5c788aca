"""Several workers on one run: what each of them computes of a step, added up. One worker needs none of it.

The process group is torch.distributed's default one, made by whoever starts the workers (Ray Train, torchrun).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

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


def once(make: Callable[[], dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    """What the first worker's `make` gives, to all of them: others' devices may round otherwise, and runs part.

    Args:
        make: called by the first worker alone, so it must not wait for the others.
        device: where the tensors come for all, if there are several workers; one has them as they were made.

    Raises:
        Exception: whatever `make` raises, on every worker; as a RuntimeError if it cannot be sent.
    """
    if count() == 1:
        return make()
    told: list[Any] = [None]
    values: dict[str, Tensor] = {}
    if rank() == 0:
        try:
            values = {name: value.detach().to(device).contiguous() for name, value in make().items()}
            told = [{name: (tuple(value.shape), value.dtype) for name, value in values.items()}]
        except Exception as error:
            told = [_sendable(error)]
    dist.broadcast_object_list(told, src=0, device=device)
    if isinstance(told[0], Exception):
        raise told[0]
    for name, (shape, dtype) in told[0].items():
        values.setdefault(name, torch.empty(shape, dtype=dtype, device=device))
        dist.broadcast(values[name], src=0)
    return values


def _sendable(error: Exception) -> Exception:
    """The error if others can be told it; if not, one that says as much: they wait to be told something."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__cause__ = error
        return told
    return error


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up the workers' gradients, in one flat buffer: adapters are small, and their ranks may change in flight."""
    if count() == 1 or not parameters:  # none: a language model with nothing attached yet, and no head to train
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    sum_(flat)
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
