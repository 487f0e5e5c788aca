"""autorank searches LoRA rank-allocation methods for the Pareto front of adapter parameters against score."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autorank.api import Search, open_search, search, shrink, train
    from autorank.modeling.adapter_file import load_adapter
    from autorank.runner import ShrinkResult, TrainResult
    from autorank.searching.ray.actors.multi_worker import train_loop
    from autorank.searching.ray.actors.trainable import tune_trainable

if sys.platform == "darwin":  # torch reads it when it is imported: operations that MPS lacks run on the CPU
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
__version__ = "0.1.0"
__all__ = [
    "Search", "ShrinkResult", "TrainResult", "load_adapter", "open_search", "search", "shrink", "train", "train_loop",
    "tune_trainable",
]  # fmt: skip
MODULES = {
    "Search": "autorank.api",
    "ShrinkResult": "autorank.runner",
    "TrainResult": "autorank.runner",
    "load_adapter": "autorank.modeling.adapter_file",
    "open_search": "autorank.api",
    "search": "autorank.api",
    "shrink": "autorank.api",
    "train": "autorank.api",
    "train_loop": "autorank.searching.ray.actors.multi_worker",
    "tune_trainable": "autorank.searching.ray.actors.trainable",
}


if Path(__file__).with_name("autorank.py").exists():  # PyPI's statistics package `autorank` is installed
    import warnings

    warnings.warn(
        "The statistics package autorank of PyPI is installed in the same directory as autorank-lora; one of the two "
        "is broken. `autorank doctor` shows how to repair it.",
        RuntimeWarning,
        stacklevel=2,
    )


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since Ray and torch take seconds to import."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'autorank' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, for completion, before their first use too."""
    return sorted({*globals(), *__all__})
