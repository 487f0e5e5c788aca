"""Reads JSON files: one object per line, or one document with all rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from autorank.errors import AutorankError
from autorank.tasks.reading.columns import find, select
from autorank.tasks.reading.data_file import DataFile

EXPECTED = 'Write one object per row, such as {"text": "...", "label": "..."}.'

Row = dict[str, Any]


def read(file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a JSON file.

    A document is an array of objects, an object with such an array, or one of the forms that pandas writes: an object
    with an array or an object for each column, or with an object for each row, or with `columns` and `data`.

    Args:
        file: The file.
        names: The requested columns.

    Returns:
        Column name -> the values of all rows; None where a row has none.

    Raises:
        AutorankError: It is not valid JSON, a row is not an object, or a column is missing or a duplicate.
    """
    rows = _rows(file, names)
    if not rows:
        return {name: [] for name in names}
    return select(file, names, _keys(rows), lambda column: [row.get(column) for row in rows])


def column_names(file: DataFile) -> list[str]:
    """Return the keys of the rows of a JSON file; raises as `read`."""
    return _keys(_rows(file, ()))


def _keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _rows(file: DataFile, names: Sequence[str]) -> list[Row]:
    decoder, lines = _decoder(names), file.text().split("\n")
    numbers = [number for number, line in enumerate(lines) if line.strip()]
    if not numbers:
        return []
    try:
        first = decoder.decode(lines[numbers[0]])
    except (ValueError, RecursionError) as error:
        return _of_document(file, _document(file, lines, decoder, error, numbers[0]), names)
    if len(numbers) == 1 and (isinstance(first, list) or file.suffix == ".json"):
        return _of_document(file, first, names)
    rows = [first, *(_line(file, lines, number, decoder) for number in numbers[1:])]
    return [_checked(f"{file}, line {number + 1}", row) for number, row in zip(numbers, rows, strict=True)]


def _of_document(file: DataFile, document: Any, names: Sequence[str]) -> list[Row]:
    """The rows of a document."""
    if isinstance(document, dict):
        if not names:  # the columns are its keys, or those of its rows
            document = [document, *_of_parts(document)]
        else:
            is_row = all(find(name, document) for name in names)
            document = _of_columns(file, document) if is_row else _of_parts(document)
    if not isinstance(document, list):
        raise AutorankError(f"{file} holds {type(document).__name__}, expected rows. {EXPECTED}")
    return [_checked(f"{file}, row {number}", row) for number, row in enumerate(document, 1)]


def _of_parts(document: Row) -> list[Any]:
    """The rows of an object whose keys are not the columns: its only table, `columns` and `data`, or its values."""
    arrays: list[list[Any]] = [value for value in document.values() if _is_table(value)]
    if len(arrays) == 1:
        return arrays[0]
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    return list(document.values()) if all(isinstance(value, dict) for value in document.values()) else [document]


def _of_columns(file: DataFile, document: Row) -> list[Row]:
    """The rows of an object whose keys are the columns: one row, unless each has an array or an object."""
    columns = [list(value.values()) if isinstance(value, dict) else value for value in document.values()]
    if not all(isinstance(column, list) for column in columns):
        return [document]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name!r} has {len(column)}" for name, column in zip(document, columns, strict=True))
        raise AutorankError(f"{file}: the columns have different numbers of values: {lengths}. {EXPECTED}")
    return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], dict)


def _document(
    file: DataFile, lines: list[str], decoder: json.JSONDecoder, first_error: Exception, first: int
) -> Any:  # fmt: skip
    """The value of the whole file, whose first line alone is not a JSON value."""
    try:
        return decoder.decode("\n".join(lines))
    except (ValueError, RecursionError) as error:
        shown, line = (first_error, first + 1)
        if file.suffix == ".json":
            shown, line = error, getattr(error, "lineno", line)
        raise AutorankError(f"{file}, line {line}: not valid JSON ({shown}). Correct this line.") from error


def _line(file: DataFile, lines: list[str], number: int, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(lines[number])
    except (ValueError, RecursionError) as error:
        raise AutorankError(f"{file}, line {number + 1}: not valid JSON ({error}). Correct this line.") from error


def _decoder(names: Sequence[str]) -> json.JSONDecoder:
    """A decoder that raises ValueError if an object has a requested key twice."""
    requested = {part for name in names for part in (name, *name.split("."))}

    def unique(pairs: list[tuple[str, Any]]) -> Row:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            if duplicates := [key for key in row if keys.count(key) > 1 and key in requested]:
                raise ValueError(f"an object has the key {duplicates[0]!r} twice")
        return row

    return json.JSONDecoder(object_pairs_hook=unique)


def _checked(location: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise AutorankError(f"{location}: expected a JSON object, got {type(row).__name__}. {EXPECTED}")
    return row
