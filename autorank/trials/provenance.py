"""Provenance of a search, for its journal: data and code."""

from __future__ import annotations

import subprocess
from typing import Any

from autorank.tasks.definition import TaskData

DIGEST = 16  # stored characters of a digest; MLflow accepts 36


def revision() -> str | None:
    """The git revision of the working directory; None outside a repository or without git."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None if git.returncode == 0 else None


def data_description(data: TaskData) -> dict[str, Any]:
    """Description of a task's data for the journal: content digest and number of examples per split."""
    splits = {"train": data.train} | data.validation
    return {"digest": data.digest[:DIGEST], "examples": {name: split.examples for name, split in splits.items()}}
