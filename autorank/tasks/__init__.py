"""What is learned: named tasks, the user's own files, the built-in demo; their data, batches and metrics."""

from __future__ import annotations

from autorank.tasks.source import TASKS, base_model, resolve
from autorank.tasks.tokenise import load

__all__ = ["TASKS", "base_model", "load", "resolve"]
