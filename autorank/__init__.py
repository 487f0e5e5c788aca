"""autorank searches the settings of LoRA rank-allocation methods for the front of parameters against score."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autorank.search.trainable import train_loop, tune_trainable

__all__ = ["train_loop", "tune_trainable"]


def __getattr__(name: str) -> Any:
    """Public names, imported on first use: they need Ray and torch."""
    if name in __all__:
        return getattr(import_module("autorank.search.trainable"), name)
    raise AttributeError(f"module 'autorank' has no attribute {name!r}")
