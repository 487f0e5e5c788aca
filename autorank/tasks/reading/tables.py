"""Reads columns of data files by their extensions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from autorank.errors import AutorankError
from autorank.tasks.reading import arrow_tables, delimited, json_rows
from autorank.tasks.reading.data_file import COMPRESSED, DataFile
from autorank.tasks.splits.table import Table


class Reader(Protocol):
    """A module that reads files of some formats."""

    def read(self, file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read columns of a file."""

    def column_names(self, file: DataFile) -> list[str]:
        """Return the names of the columns of a file."""


READERS: dict[str, Reader] = {
    ".csv": delimited,
    ".tsv": delimited,
    ".json": json_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".parquet": arrow_tables,
    ".arrow": arrow_tables,
    ".feather": arrow_tables,
}


def read(files: Sequence[DataFile], names: Sequence[str], source: str) -> Table:
    """Read columns of files, one after the other.

    Args:
        files: The files.
        names: The requested columns; parts of nested ones with dots.
        source: What the files are part of, for messages.

    Returns:
        The columns.

    Raises:
        AutorankError: A file has another extension, is invalid, or lacks a column.
    """
    tables = []
    for file in files:
        with _reader(file) as reader:
            tables.append(reader.read(file, names))
    columns = {name: [value for table in tables for value in table[name]] for name in names}
    typed = all(READERS[file.suffix] is not delimited for file in files)
    if len(files) == 1:
        return Table(columns, str(files[0]), typed=typed)
    sizes = tuple(
        (PurePosixPath(file.path).name, len(next(iter(table.values()))))
        for file, table in zip(files, tables, strict=True)
    )
    return Table(columns, f"{source} ({len(files)} files)", sizes, typed)


def column_names(files: Sequence[DataFile]) -> list[str]:
    """Return the columns that all of these files have.

    Raises:
        AutorankError: A file has another extension or is invalid.
    """
    names = []
    for file in files:
        with _reader(file) as reader:
            names.append(reader.column_names(file))
    names = [of_file for of_file in names if of_file]  # an empty file has none
    return [name for name in names[0] if all(name in others for others in names)] if names else []


def formats() -> str:
    """The extensions of data files, for messages."""
    return ", ".join(suffix.removeprefix(".") for suffix in READERS)


@contextlib.contextmanager
def _reader(file: DataFile) -> Iterator[Reader]:
    """The reader of a file; errors of the file system become errors that name the file."""
    reader = READERS.get(file.suffix)
    if reader is None:
        raise AutorankError(
            f"{file} has the unsupported extension {file.suffix!r}. Convert it to one of {', '.join(READERS)}, which "
            f"may be compressed ({', '.join(COMPRESSED)})."
        )
    try:
        yield reader
    except OSError as error:
        raise AutorankError(f"{file} cannot be read: {error.strerror or error}.") from error
