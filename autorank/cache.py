"""Where things that can be made again are kept between runs: tokenised data, probes."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """`AUTORANK_CACHE`, or `~/.cache/autorank`."""
    return Path(os.environ.get("AUTORANK_CACHE") or Path.home() / ".cache" / "autorank").expanduser().absolute()
