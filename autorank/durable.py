"""Files that are there whole or not at all, also after a power failure."""

from __future__ import annotations

import os
from pathlib import Path


def put(written: Path, place: Path) -> None:
    """Move a file that is wholly written to its place; who reads there finds the old file or the new one."""
    with written.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(written, place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is the folder's content
    finally:
        os.close(folder)
