"""Files that are there whole or not at all, also after a power failure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """A local file to write, which is then put in its place, on a disk or in object storage (a `UPath`).

    Who reads there finds the old file or the new one. If the writing fails, nothing is left of it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(place, Path):
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            yield partial
            put(partial, place)
        finally:
            partial.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / place.name
            place.write_bytes((Path(scratch) / place.name).read_bytes())  # an object is there when it is whole


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


def append(line: str, file: Path) -> None:
    """Add a line, newline excluded; when this returns it is on the disk."""
    with file.open("a", encoding="utf-8") as out:
        out.write(line + "\n")
        out.flush()
        os.fsync(out.fileno())
