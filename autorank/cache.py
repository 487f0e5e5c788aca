"""The cache directory, for data that can be created again: tokenized data, probes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError


def folder() -> Path:
    """Return the cache directory: `AUTORANK_CACHE`, or `~/.cache/autorank`.

    Returns:
        An absolute path, which may not exist yet.

    Raises:
        AutorankError: The home directory of the path is unknown.
    """
    path = os.environ.get("AUTORANK_CACHE") or "~/.cache/autorank"
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise AutorankError(
            f"Cannot use the cache directory {path}: {error} Set AUTORANK_CACHE to another directory."
        ) from error


def key(values: Any) -> str:
    """Return the name of a result in the cache: a digest of the JSON values that the result depends on."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
