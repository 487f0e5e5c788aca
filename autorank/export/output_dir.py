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
PARTIAL = ".autorank-"  # how the names of folders begin that are worked in


def refuse_taken(folder: Path) -> None:
    """Raise AutorankError if there is something at `folder` already."""
    if folder.exists() and (not folder.is_dir() or any(not e.name.startswith(PARTIAL) for e in folder.iterdir())):
        raise AutorankError(f"{folder} exists already. Choose another --to, or remove it first.")


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A folder to work in on the disk of `folder`, gone in the end.

    It is within `folder` if that is there, which may be a disk of its own.

    Raises:
        AutorankError: as `refuse_taken`, or nothing can be written there.
    """
    refuse_taken(folder)
    place = folder.absolute() if folder.is_dir() else folder.absolute().parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=place))
    except OSError as error:
        raise AutorankError(f"{folder} cannot be written: {error.strerror}. Choose another --to.") from error
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch(to: Path | None) -> Iterator[Path]:
    """A folder to work in: as `beside` if `to` is given, else a temporary one."""
    if to is not None:
        with beside(to) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def put(made: Path, folder: Path) -> None:
    """Give a folder that was made in `beside` this name; raises as `refuse_taken`.

    It appears at once, but where there is an empty folder, which may be one that cannot be replaced (a disk is mounted
    there, somebody works in it): this is filled file by file.
    """
    refuse_taken(folder)
    if folder.is_dir():
        for file in made.iterdir():
            os.replace(file, folder / file.name)
    else:
        os.replace(made, folder)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """The place in which to write `folder`, for whom the umask says; raises as `beside`."""
    with beside(folder) as partial:
        made = partial / "made"
        made.mkdir()
        yield made
        mode = made.stat().st_mode & 0o666  # as the umask has it
        for file in made.rglob("*"):
            if file.is_file():
                file.chmod(mode)  # safetensors writes for the owner alone
        put(made, folder)


@contextmanager
def kept(file: Path, folder: Path) -> Iterator[None]:
    """Around the training and the writing of `folder`, from a file in `beside`: what fails once the file is there says
    where it stays."""
    try:
        yield
    except BaseException as error:
        if not file.exists():
            raise
        work = file.parent
        saved = work.with_name(f"{folder.absolute().name}-{work.name.removeprefix(PARTIAL)}{file.suffix}")
        os.replace(file, saved)
        where = f"The best adapter so far is kept in {saved}, which autorank.load_adapter reads."
        if isinstance(error, AutorankError | OSError):
            raise AutorankError(f"{str(error).rstrip('.')}. {where}") from error
        error.add_note(where)
        raise


def write(folder: Path, card: str, files: Files | None) -> None:
    """Write a model card, and what else there is, into a folder."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
