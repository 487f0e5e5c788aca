"""Where things that can be made again are kept between runs: tokenised data, probes."""

from __future__ import annotations

import os
from pathlib import Path

from autorank.errors import AutorankError


def folder() -> Path:
    """`AUTORANK_CACHE`, or `~/.cache/autorank`.

    Raises:
        AutorankError: a home that nobody has.
    """
    place = os.environ.get("AUTORANK_CACHE") or "~/.cache/autorank"
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError as error:
        raise AutorankError(f"The cache cannot be in {place}: {error} Set AUTORANK_CACHE to a folder.") from error
