"""Names of columns: nested ones, duplicates, unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from autorank.errors import AutorankError, unknown

MAX_LISTED = 30  # columns that a message lists
LONGEST = 50  # characters of their names
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


def locate(source: object, names: Sequence[str], available: Sequence[str]) -> dict[str, Location]:
    """Find columns among those of a table. Parts of nested columns are named with dots: `translation.en`.

    Args:
        source: The file, for messages.
        names: The requested columns.
        available: The columns of the table.

    Returns:
        Requested column -> its location.

    Raises:
        AutorankError: Columns are missing, each listed with its nearest match, or a requested column is a duplicate.
    """
    if not available:
        raise AutorankError(f"{source} is empty. Use a file with a header and at least two labeled rows.")
    locations = {name: location for name in names if (location := find(name, available))}
    missing = [_unknown(name, available) for name in names if name not in locations]
    if missing:
        no_header = "" if locations else " The first row of csv and tsv files must have the names of the columns."
        raise AutorankError(f"{source}: " + " ".join(missing) + no_header)
    for column, _ in locations.values():
        positions = [str(i) for i, other in enumerate(available, 1) if other == column]
        if len(positions) > 1:
            raise AutorankError(
                f"{source} has {len(positions)} columns named {column!r} (columns {', '.join(positions)}). Rename all "
                "but one."
            )
    return locations


def find(name: str, available: Collection[str]) -> Location | None:
    """Return where a column is; None if there is no such column. The longest prefix that is a column counts."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        column = ".".join(parts[:end])
        if column in available:
            return Location(column, tuple(parts[end:]))
    return None


def check_nested(source: object, columns: Mapping[str, Sequence[Any]], values: Mapping[str, Sequence[Any]]) -> None:
    """Check that nested columns have at least one value.

    Args:
        source: The file, for messages.
        columns: Requested column -> its values.
        values: Column of the table -> its values.

    Raises:
        AutorankError: A nested column has none.
    """
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
    similar = difflib.get_close_matches(name, available, n=3)
    listed = dict.fromkeys([*similar, *available[:MAX_LISTED]])
    more = len(set(available)) - len(listed)
    message = str(
        unknown("column", name, [other if len(other) <= LONGEST else f"{other[:LONGEST]}..." for other in listed])
    )
    return message.removesuffix(".") + (f" and {more} more." if more else ".")


def _item(value: Any, key: str) -> Any:
    """A value of a dict, or of a list by its number; None if there is none."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return None
