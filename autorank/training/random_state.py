"""A run's own stream of random numbers, whatever else the process draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor


class RandomState:
    """The state of torch's generators (dropout draws from them) that belongs to one run."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        with self._fork():
            torch.manual_seed(seed)
            self.state = self._read()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, torch draws from this stream; afterwards the process has its own back."""
        with self._fork():
            torch.set_rng_state(self.state[0])
            for device, state in zip(self._devices, self.state[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self.state = self._read()

    def _fork(self) -> AbstractContextManager[None]:
        fork: AbstractContextManager[None] = torch.random.fork_rng(devices=self._devices)
        return fork

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]
