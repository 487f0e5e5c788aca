"""What a method computes before training, kept for other runs that would compute the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autorank.method import RunContext


def kept(run: RunContext, name: str, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` gives, on the run's device; from the run's cache where another run has left it.

    Args:
        name: of the method, for people who look into the cache.
        key: plain values that, with `run.key`, name all that the result depends on.
    """
    from safetensors.torch import load_file, save_file

    digest = hashlib.sha256(json.dumps([run.key, key], sort_keys=True).encode()).hexdigest()[:32]
    file = run.cache / f"{name}-{digest}.safetensors"
    if not run.sum(torch.tensor(float(not file.exists()), device=run.device)):  # every worker has it
        return load_file(file, device=str(run.device))
    # contiguous, for the products of another layout are rounded otherwise
    values = {key: value.contiguous() for key, value in make().items()}
    run.cache.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    save_file(values, partial)
    os.replace(partial, file)
    return values
