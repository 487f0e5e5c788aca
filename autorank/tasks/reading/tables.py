"""Reads columns of data files by their extensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from autorank.errors import AutorankError
from autorank.tasks.reading import arrow_tables, delimited, json_rows
from autorank.tasks.reading.data_file import COMPRESSED, DataFile
from autorank.tasks.splits.table import Table

READERS: dict[str, Callable[[DataFile, Sequence[str]], dict[str, list[Any]]]] = {
    ".csv": delimited.read,
    ".tsv": delimited.read,
    ".json": json_rows.read,
    ".jsonl": json_rows.read,
    ".ndjson": json_rows.read,
    ".parquet": arrow_tables.read,
    ".arrow": arrow_tables.read,
    ".feather": arrow_tables.read,
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
    tables = [_read_file(file, names) for file in files]
    columns = {name: [value for table in tables for value in table[name]] for name in names}
    typed = all(READERS[file.suffix] is not delimited.read for file in files)
    if len(files) == 1:
        return Table(columns, str(files[0]), typed=typed)
    sizes = tuple(
        (PurePosixPath(file.path).name, len(next(iter(table.values()))))
        for file, table in zip(files, tables, strict=True)
    )
    return Table(columns, f"{source} ({len(files)} files)", sizes, typed)


def formats() -> str:
    """The extensions of data files, for messages."""
    return ", ".join(suffix.removeprefix(".") for suffix in READERS)


def _read_file(file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
    reader = READERS.get(file.suffix)
    if reader is None:
        raise AutorankError(
            f"{file} has the unsupported extension {file.suffix!r}. Convert it to one of {', '.join(READERS)}, which "
            f"may be compressed ({', '.join(COMPRESSED)})."
        )
    try:
        return reader(file, names)
    except OSError as error:
        raise AutorankError(f"{file} cannot be read: {error.strerror or error}.") from error
