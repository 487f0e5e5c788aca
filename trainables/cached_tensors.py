"""What a method computes before training, kept for other runs that would compute the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from autorank import atomic_io
from autorank.run_context import RunContext


def kept(run: RunContext, name: str, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` gives, on the run's device; from the run's cache where another run has left it.

    The first worker's, for all of them.

    Args:
        name: of the method, for people who look into the cache.
        key: plain values that, with `run.key`, name all that the result depends on.
        make: as `RunContext.once` takes it.
    """
    from safetensors.torch import load_file

    digest = hashlib.sha256(json.dumps([run.key, key], sort_keys=True).encode()).hexdigest()[:32]
    file = run.cache / f"{name}-{digest}.safetensors"

    def found() -> dict[str, Tensor]:
        if file.exists():
            return load_file(file, device=str(run.device))
        # contiguous, for the products of another layout are rounded otherwise
        values = {key: value.contiguous() for key, value in make().items()}
        save(values, file)
        return values

    return run.once(found)


def save(values: dict[str, Tensor], file: Path) -> None:
    """Write a file whole."""
    from safetensors.torch import save_file

    with atomic_io.writing(file) as partial:
        save_file(values, partial)
