"""Tasks: named tasks, the user's own data, the built-in demo; their data, batches and metrics."""

from __future__ import annotations

from autorank.tasks.registry import TASKS, base_model, resolve
from autorank.tasks.tokenization import load

__all__ = ["TASKS", "base_model", "load", "resolve"]
