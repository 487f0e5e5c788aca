"""Several workers in one run: sums and broadcasts, which do nothing with a single worker.

The process group is the default one of torch.distributed, created by what starts the workers (Ray Train, torchrun).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def count() -> int:
    """Return the number of workers of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this worker, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_(values: Tensor) -> Tensor:
    """Sum values over the workers, in place."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def gather(value: T) -> list[T]:
    """Collect a value of each worker, which can be pickled, on all of them.

    Args:
        value: This worker's value.

    Returns:
        The values in the order of the workers.
    """
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Return every n-th item, which are those that this one of n workers deals with."""
    return items[rank() :: count()]


def once(make: Callable[[], dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    """Compute tensors on the first worker and send them to all.

    Other devices may round differently, and then the workers' models would diverge.

    Args:
        make: Called on the first worker only, so it must not wait for the others.
        device: Device of the result if there are several workers; with one worker the result of `make` is returned.

    Returns:
        The tensors by name, equal on all workers.

    Raises:
        Exception: An exception of `make`, on every worker; as a RuntimeError if it cannot be pickled.
    """
    if count() == 1:
        return make()
    message: list[Any] = [None]
    values: dict[str, Tensor] = {}
    if rank() == 0:
        try:
            values = {name: value.detach().to(device).contiguous() for name, value in make().items()}
            message = [{name: (tuple(value.shape), value.dtype) for name, value in values.items()}]
        except Exception as error:
            message = [_sendable(error)]
    dist.broadcast_object_list(message, src=0, device=device)
    if isinstance(message[0], Exception):
        raise message[0]
    for name, (shape, dtype) in message[0].items():
        values.setdefault(name, torch.empty(shape, dtype=dtype, device=device))
        dist.broadcast(values[name], src=0)
    return values


def _sendable(error: Exception) -> Exception:
    """The error if it can be pickled, else a RuntimeError with the same text; the other workers wait for one."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        substitute = RuntimeError(f"{type(error).__name__}: {error}")
        substitute.__cause__ = error
        return substitute
    return error


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum gradients over the workers, in one flat buffer, since adapters are small and their ranks can change."""
    if count() == 1 or not parameters:  # none: a language model without updates and head
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    sum_(flat)
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
