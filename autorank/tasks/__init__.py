"""What is learned: named tasks, the user's own files, the built-in demo; their data, batches and metrics."""

from __future__ import annotations

from autorank.tasks.data.tokenization import load
from autorank.tasks.registry import TASKS, base_model, resolve

__all__ = ["TASKS", "base_model", "load", "resolve"]
