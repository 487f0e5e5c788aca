"""Reads csv and tsv files, with any of the usual separators."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from autorank.errors import AutorankError, counted
from autorank.tasks.reading.columns import find, locate
from autorank.tasks.reading.data_file import DataFile

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
BEFORE_HEADER = re.compile(r"(?:[^\S\r\n]*\r?\n)*(?:sep=(.)\r?\n)?")  # empty lines; a line that spreadsheets write


def read(file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a csv or tsv file.

    The separator is a comma (in tsv files a tab), or the one with which the header has the requested columns.

    Args:
        file: The file.
        names: The requested columns.

    Returns:
        Column name -> the texts of all rows.

    Raises:
        AutorankError: A column is missing or a duplicate, a row has another number of fields than the header, or
            quotes are not closed.
    """
    csv.field_size_limit(2**31 - 1)  # the default, 128 KB, is too small for long documents
    text = file.text()
    before = BEFORE_HEADER.match(text)
    start, declared = (before.end(), before[1]) if before else (0, None)
    skipped = text.count("\n", 0, start)
    separator, header = _header(file, text[start : start + 2**20], names, declared)
    locations = locate(file, names, header)
    positions = [header.index(location.column) for location in locations.values()]
    values: list[list[Any]] = [[] for _ in positions]
    lines = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    first = 1 + skipped  # line on which the row starts
    try:
        for number, row in enumerate(lines):
            line, first = first, lines.line_num + 1 + skipped
            if not number or _is_blank(row, header):
                continue
            if len(row) != len(header):
                separated = SEPARATORS.get(separator, separator)
                raise AutorankError(
                    f"{file}, line {line}: {counted(len(row), 'field')}, but the header has {len(header)}, separated "
                    f"by {separated}. Quote fields that hold the separator or line breaks."
                )
            for column, position in zip(values, positions, strict=True):
                column.append(row[position])
    except csv.Error as error:
        raise AutorankError(
            f"{file}, line {first}: not valid csv ({error}). Close the quotes of this row; write a quote inside "
            'quotes as "".'
        ) from error
    return {name: column for name, column in zip(locations, values, strict=True)}


def _header(file: DataFile, beginning: str, names: Sequence[str], declared: str | None) -> tuple[str, list[str]]:
    """The separator and the names of the columns, without blanks around them."""
    usual = sorted(SEPARATORS, key=lambda separator: separator != "\t") if file.suffix != ".csv" else list(SEPARATORS)
    headers = {separator: _first_row(beginning, separator) for separator in ([declared] if declared else usual)}
    for separator, header in headers.items():
        if all(find(name, header) for name in names):
            return separator, header
    return max(headers.items(), key=lambda entry: len(entry[1]))


def _first_row(text: str, separator: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])]
    except csv.Error:
        return []


def _is_blank(row: list[str], header: list[str]) -> bool:
    """Whether a row is an empty line."""
    return not row or (len(row) == 1 < len(header) and not row[0].strip())
