"""Atomic writes: after a crash or a power failure a file has its old or its new content, and nothing in between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary local file to write, which then replaces the file at a path.

    Readers see the old or the new file. If writing fails, the temporary file is deleted.

    Args:
        path: The file, on a disk or in object storage (a `UPath`).

    Yields:
        The temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(path, Path):
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            yield partial
            put(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / path.name
            path.write_bytes((Path(scratch) / path.name).read_bytes())  # object storage replaces objects atomically


def put(partial: Path, path: Path) -> None:
    """Replace a file by another one on the same disk; readers see the old or the new file.

    Args:
        partial: The new file, completely written.
        path: The file to replace.
    """
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # stores the new name
    finally:
        os.close(folder)


def append(line: str, file: Path) -> None:
    """Append a line to a file. When the function returns, the line is on the disk.

    Args:
        line: The line, without a newline.
        file: The file.
    """
    with file.open("a", encoding="utf-8") as out:
        out.write(line + "\n")
        out.flush()
        os.fsync(out.fileno())
