"""The cache directory, for data that can be created again: tokenized data, probes."""

from __future__ import annotations

import os
from pathlib import Path

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
