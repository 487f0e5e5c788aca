"""A run's own random numbers, whatever else the process draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stream(device: torch.device, *name: int | str) -> Iterator[None]:
    """Inside, torch (dropout, that is) draws from the stream of this name; afterwards the process has its own back.

    The name is all that a stream depends on: who knows it need not save where a generator stood.
    """
    seed = int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
