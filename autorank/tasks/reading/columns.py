"""Names of columns: nested ones, duplicates, unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from autorank.errors import AutorankError, listed, similar

MAX_LISTED = 30  # columns that a message lists
MAX_NAME_CHARS = 50  # characters of their names
EXAMPLES = 100  # rows in which names of nested columns are looked for, for messages


class Location(NamedTuple):
    """Where the values of a column are.

    Attributes:
        column: The column of the table.
        keys: Keys inside its values, if it is nested: `en` of `translation.en`.
    """

    column: str
    keys: tuple[str, ...]

    def select(self, values: Iterable[Any]) -> list[Any]:
        """Return the values of the column, nested ones taken out; None where there is none."""
        selected = list(values)
        for key in self.keys:
            selected = [_item(value, key) for value in selected]
        return selected


def select(
    source: object, names: Sequence[str], available: Sequence[str], cells: Callable[[str], list[Any]]
) -> dict[str, list[Any]]:
    """Return columns of a table, and parts of nested ones.

    Args:
        source: The file, for messages.
        names: The requested columns; parts of nested ones with dots.
        available: The columns of the table.
        cells: Function that returns the values of a column of the table.

    Returns:
        Requested column -> the values of all rows.

    Raises:
        AutorankError: As `locate`, or a part of a nested column has no value.
    """
    locations = locate(source, names, available)
    values = {column: cells(column) for column in dict.fromkeys(location.column for location in locations.values())}
    columns = {name: location.select(values[location.column]) for name, location in locations.items()}
    _check_nested(source, columns, values)
    return columns


def locate(source: object, names: Sequence[str], available: Sequence[str], nested: bool = True) -> dict[str, Location]:
    """Find columns among those of a table. Parts of nested columns are named with dots: `translation.en`.

    Args:
        source: The file, for messages.
        names: The requested columns.
        available: The columns of the table.
        nested: Whether its columns can be nested; those of csv cannot.

    Returns:
        Requested column -> its location.

    Raises:
        AutorankError: Columns are missing, each listed with its nearest match, or a requested column is a duplicate.
    """
    if not available:
        raise AutorankError(f"{source} is empty. Use a file with a header and at least two labeled rows.")
    found = {name: location for name in names if (location := find(name, available))}
    locations = {name: location for name, location in found.items() if nested or not location.keys}
    missing = [_unknown(name, available) for name in names if name not in locations]
    if missing:
        hint = "" if found else " The first row of csv and tsv files must have the names of the columns."
        if len(found) > len(locations):
            hint = " csv and tsv files have no nested columns: convert the file to jsonl or parquet."
        raise AutorankError(f"{source}: " + " ".join(missing) + hint)
    for column, _ in locations.values():
        positions = [str(i) for i, other in enumerate(available, 1) if other == column]
        if len(positions) > 1:
            raise AutorankError(
                f"{source} has {len(positions)} columns named {column!r} (columns {', '.join(positions)}). Rename all "
                "but one."
            )
    return locations


def find(name: str, available: Collection[str]) -> Location | None:
    """Return where a column is; None if there is no such column. The longest prefix that is a column counts.

    Blanks around the name of a column need not be given.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        column = ".".join(parts[:end])
        if column in available:
            return Location(column, tuple(parts[end:]))
    matches = [column for column in available if column.strip() == name]
    return Location(matches[0], ()) if len(matches) == 1 else None


def _check_nested(source: object, columns: Mapping[str, Sequence[Any]], values: Mapping[str, Sequence[Any]]) -> None:
    """Raise if a part of a nested column has no value; columns: as requested, values: of the table's columns."""
    for name, selected in columns.items():
        if name in values or any(value is not None for value in selected) or not selected:
            continue
        nested = {
            f"{column}.{key}"
            for column, cells in values.items()
            for value in cells[:EXAMPLES]
            if isinstance(value, dict)
            for key in value
        }
        raise AutorankError(f"{source}: {_unknown(name, [*values, *sorted(nested)])}")


def _unknown(name: str, available: Sequence[str]) -> str:
    """A sentence about a column that is not available, with the first and the most similar ones that are."""
    others = list(dict.fromkeys([*difflib.get_close_matches(name, available, n=3), *available]))
    others[:MAX_LISTED] = sorted(others[:MAX_LISTED])
    suggestion = similar(name, others[:MAX_LISTED])
    hint = f"Did you mean {_short(suggestion)!r}? " if suggestion else ""
    return f"Unknown column {name!r}. {hint}Available: {listed(list(map(_short, others)), MAX_LISTED)}."


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}..."


def _item(value: Any, key: str) -> Any:
    """A value of a dict, or of a list by its number; None if there is none."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return None
