"""Output directories that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autorank.errors import AutorankError, disk_full

PARTIAL = ".autorank-"  # prefix of the names of temporary directories


def check_available(folder: Path) -> None:
    """Check that a directory can be written: it does not exist or is empty.

    Args:
        folder: The directory.

    Raises:
        AutorankError: `folder` is a file or a directory that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(not e.name.startswith(PARTIAL) for e in folder.iterdir())):
        raise AutorankError(f"{folder} already exists. Choose another --to, or remove it first.")


@contextmanager
def partial_dir(folder: Path) -> Iterator[Path]:
    """A temporary directory on the disk of `folder`, removed at the end.

    It is inside `folder` if that exists, which may be the mount point of a disk.

    Args:
        folder: The directory to be written later.

    Yields:
        The temporary directory.

    Raises:
        AutorankError: `folder` exists and is not empty, or nothing can be written there.
    """
    check_available(folder)
    parent = folder.absolute() if folder.is_dir() else folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
    except OSError as error:
        raise AutorankError(f"Cannot write {folder}: {error.strerror}. Choose another --to.") from error
    try:
        yield partial
    except Exception as error:
        if disk_full(error) and not isinstance(error, AutorankError | OSError):  # as safetensors reports it
            raise OSError(errno.ENOSPC, str(error).rstrip(".")) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def work_dir(to: Path | None) -> Iterator[Path]:
    """A temporary directory: on the disk of `to` if given (see `partial_dir`), else the system's.

    Args:
        to: The directory to be written later.

    Yields:
        The temporary directory.
    """
    if to is not None:
        with partial_dir(to) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def move_into_place(source: Path, folder: Path) -> None:
    """Rename a complete directory inside a `partial_dir` to its final name.

    The rename is atomic, except into an existing empty directory, which may be one that cannot be replaced (a mount
    point, somebody's working directory): the files are moved into it one by one.

    Args:
        source: The complete directory.
        folder: Its final name.

    Raises:
        AutorankError: `folder` exists and is not empty.
    """
    check_available(folder)
    if folder.is_dir():
        for file in source.iterdir():
            os.replace(file, folder / file.name)
    else:
        os.replace(source, folder)


@contextmanager
def complete_dir(folder: Path) -> Iterator[Path]:
    """A directory to fill, which becomes `folder` at the end, with the permissions of the umask.

    Args:
        folder: The directory to create.

    Yields:
        The temporary directory to write to.

    Raises:
        AutorankError: `folder` exists and is not empty, or nothing can be written there.
    """
    with partial_dir(folder) as partial:
        output = partial / "output"
        output.mkdir()
        yield output
        mode = output.stat().st_mode & 0o666  # the umask's
        for file in output.rglob("*"):
            if file.is_file():
                file.chmod(mode)  # safetensors writes files that only the owner can read
        move_into_place(output, folder)


@contextmanager
def keep_on_failure(file: Path, folder: Path) -> Iterator[None]:
    """Keep the best adapter if training or the export fails; the error says where it is.

    Args:
        file: The adapter, in a `partial_dir` of `folder`.
        folder: The directory that would have been written.

    Raises:
        AutorankError: In place of an AutorankError or OSError in the body, with the path of the kept adapter.
    """
    try:
        yield
    except BaseException as error:
        if not file.exists():
            raise
        work = file.parent
        saved = work.with_name(f"{folder.absolute().name}-{work.name.removeprefix(PARTIAL)}{file.suffix}")
        os.replace(file, saved)
        note = f"The best adapter so far was saved to {saved}; load it with autorank.load_adapter."
        if isinstance(error, AutorankError | OSError) or disk_full(error):
            raise AutorankError(f"{str(error).rstrip('.')}. {note}") from error
        error.add_note(note)
        raise
