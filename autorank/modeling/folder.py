"""An exported model as a folder that appears under its name only when it is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autorank.errors import AutorankError

Files = Mapping[str, bytes]  # name -> content, of what is written beside a model


def refuse_taken(folder: Path) -> None:
    """Raise AutorankError if there is something at `folder` already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AutorankError(f"{folder} exists already. Choose another --to, or remove it first.")


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A folder to work in on the disk of `folder`, gone in the end; raises as `refuse_taken`."""
    refuse_taken(folder)
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put(made: Path, folder: Path) -> None:
    """Give a folder that lies beside `folder` this name, at once; raises as `refuse_taken`."""
    refuse_taken(folder)
    if folder.exists():
        folder.rmdir()
    os.chmod(made, 0o755)
    os.replace(made, folder)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """The place in which to write `folder`; raises as `refuse_taken`."""
    with beside(folder) as partial:
        yield partial
        put(partial, folder)


def write(folder: Path, card: str, files: Files | None) -> None:
    """Write a model card, and what else there is, into a folder."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
