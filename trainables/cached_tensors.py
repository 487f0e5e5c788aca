"""Caches tensors that a method computes before training, for other runs that need the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from autorank import atomic_io, cache
from autorank.run_context import RunContext


def cached(run: RunContext, name: str, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the result of `make`, from the run's cache if another run has stored it there.

    With several workers, the first one computes the result for all.

    Args:
        run: The run.
        name: The method's name, which is part of the file's name.
        key: JSON values that, together with `run.key`, identify everything that the result depends on.
        make: Computes the tensors, as in `RunContext.once`.

    Returns:
        The tensors by name, on the run's device.
    """
    from safetensors.torch import load_file

    file = run.cache / f"{name}-{cache.key([run.key, key])}.safetensors"

    def load_or_make() -> dict[str, Tensor]:
        if file.exists():
            return load_file(file, device=str(run.device))
        # contiguous, because products of another layout are rounded differently
        values = {key: value.contiguous() for key, value in make().items()}
        save(values, file)
        return values

    return run.once(load_or_make)


def save(values: dict[str, Tensor], file: Path) -> None:
    """Write tensors to a file atomically."""
    from safetensors.torch import save_file

    with atomic_io.writing(file) as partial:
        save_file(values, partial)
