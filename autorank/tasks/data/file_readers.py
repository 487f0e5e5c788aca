"""Columns of csv, jsonl and parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError, unknown


def read(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a csv, jsonl or parquet file.

    Args:
        path: The file.
        names: The columns to read.

    Returns:
        Column name -> the values of all rows; text only, for csv.

    Raises:
        AutorankError: The file is missing, has another extension, is invalid, or lacks a column.
    """
    if not path.is_file():
        raise AutorankError(f"File {str(path)!r} does not exist. Check --data.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise AutorankError(
            f"{path} has the unsupported extension {path.suffix!r}. Convert it to one of {', '.join(READERS)}."
        )
    try:
        return reader(path, names)
    except UnicodeDecodeError as error:
        raise AutorankError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}). Convert it to UTF-8."
        ) from error
    except OSError as error:
        raise AutorankError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_csv(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KB, is too small for long documents
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines, [])
            _require(path, names, header)
            positions = [header.index(name) for name in names]
            values: list[list[Any]] = [[] for _ in names]
            for row in lines:
                if not row:
                    continue  # empty line
                if len(row) != len(header):
                    raise AutorankError(
                        f"{path}, line {lines.line_num}: {len(row)} fields, but the header has "
                        f"{len(header)}. Quote fields that hold commas or line breaks."
                    )
                for column, position in zip(values, positions, strict=True):
                    column.append(row[position])
        except csv.Error as error:
            raise AutorankError(
                f"{path}, line {lines.line_num}: not valid csv ({error}). Correct this line."
            ) from error
    return dict(zip(names, values, strict=True))


def _read_jsonl(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    records = list(_records(path))
    _require(path, names, list(dict.fromkeys(key for record in records for key in record)) if records else names)
    return {name: [record.get(name) for record in records] for name in names}


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise AutorankError(f"{path}, line {number}: not valid JSON ({error}). Correct this line.") from error
            if not isinstance(record, dict):
                raise AutorankError(
                    f"{path}, line {number}: expected a JSON object, got {type(record).__name__}. Write one "
                    'object per line, such as {"text": "...", "label": "..."}.'
                )
            yield record


def _read_parquet(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AutorankError(
            f"{path}: parquet files need pyarrow. Run `pip install pyarrow`, or use csv or jsonl."
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            _require(path, names, file.schema_arrow.names)
            table = file.read(columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise AutorankError(f"{path} is not a valid parquet file: {error}. Write or copy it again.") from error
    return {name: table.column(name).to_pylist() for name in names}


READERS: dict[str, Callable[[Path, Sequence[str]], dict[str, list[Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _require(path: Path, names: Sequence[str], available: Sequence[str]) -> None:
    """Raise for all missing columns at once, each with its nearest match."""
    if not available:
        raise AutorankError(f"{path} is empty. Use a file with a header and at least two labelled rows.")
    missing = [str(unknown("column", name, available)) for name in names if name not in available]
    if missing:
        raise AutorankError(f"{path}: " + " ".join(missing))
