"""Random numbers of a run, independent of what else the process draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stream(device: torch.device, *name: int | str) -> Iterator[None]:
    """Draw torch's random numbers, for dropout, from a named stream within this context.

    A stream depends only on its name, so no generator state has to be saved.

    Args:
        device: Device whose generator is replaced, besides that of the CPU.
        name: Parts of the stream's name.
    """
    seed = int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
