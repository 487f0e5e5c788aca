"""Columns of a split as they were read, before they become examples."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

MAX_LISTED = 5  # most row numbers or values that a message lists


@dataclass(frozen=True)
class Table:
    """Columns of a split.

    Attributes:
        columns: Column name -> the values of all rows.
        source: Where they come from (a file, or a split on the Hub), for messages.
        files: Name and number of rows of each file, if there are several.
        typed: Whether the format distinguishes text, numbers and missing values; csv does not.
    """

    columns: Mapping[str, Sequence[Any]]
    source: str
    files: tuple[tuple[str, int], ...] = ()
    typed: bool = True

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self, indices: Iterable[int]) -> str:
        """Name rows in a message: `rows 3, 17 (counted from 1, 2 in all)`; with the files, if there are several."""
        numbers = list(indices)
        return f"{rows(numbers, self.files)} (counted from 1, {len(numbers)} in all)"


def rows(indices: Iterable[int], files: Sequence[tuple[str, int]] = ()) -> str:
    """Name rows in a message, counted from 1 without the header: `rows 3, 17, 20 and 4 more`.

    Args:
        indices: Row indices, from 0.
        files: Name and number of rows of each file, if there are several; rows are counted in each.

    Returns:
        The text.
    """
    numbers = list(indices)
    starts = [0, *accumulate(count for _, count in files)]
    grouped: dict[int, list[int]] = {}
    for index in numbers[:MAX_LISTED]:
        file = bisect_right(starts, index) - 1 if files else 0
        grouped.setdefault(file, []).append(index - starts[file] + 1)
    shown = ", ".join(
        f"row{'s' if len(rows) > 1 or len(numbers) > MAX_LISTED else ''} {', '.join(map(str, rows))}"
        + (f" of {files[file][0]}" if files else "")
        for file, rows in grouped.items()
    )
    return shown + (f" and {len(numbers) - MAX_LISTED} more" if len(numbers) > MAX_LISTED else "")


def is_unicode(text: str) -> bool:
    """Whether text has no half characters (lone surrogates), which no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
