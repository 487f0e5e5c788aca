"""Reads csv and tsv files, with any of the usual separators."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autorank.errors import AutorankError, counted
from autorank.tasks.reading.columns import locate
from autorank.tasks.reading.data_file import DataFile

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
BEFORE_HEADER = re.compile(r"(?:[^\S\r\n]*\r?\n)*(?:sep=(.)\r?\n)?")  # empty lines; a line that spreadsheets write


class _Sheet(NamedTuple):
    """The text of a file.

    Attributes:
        text: The text from the header on.
        skipped: Number of lines before the header.
        separator: Character between fields.
        header: Names of the columns.
    """

    text: str
    skipped: int
    separator: str
    header: list[str]


def read(file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a csv or tsv file.

    The separator is a comma (in tsv files a tab), or the one with which the header has the requested columns. Files
    with tabs, such as GLUE's, are often written without quoting. They are read so if their quotes are not valid, or a
    quoted field has both a tab and a line break, and each line has as many fields as the header.

    Args:
        file: The file.
        names: The requested columns.

    Returns:
        Column name -> the texts of all rows.

    Raises:
        AutorankError: A column is missing or a duplicate, a row has another number of fields than the header, or
            quotes are not closed.
    """
    sheet = _sheet(file, names)
    locations = locate(file, names, sheet.header, nested=False)
    positions = {name: sheet.header.index(location.column) for name, location in locations.items()}
    if sheet.separator != "\t" or '"' in sheet.text.partition("\n")[0]:
        return _columns(file, sheet, positions)[0]
    columns: dict[str, list[Any]] = {}
    is_suspicious, invalid = True, None
    try:
        columns, is_suspicious = _columns(file, sheet, positions)
    except AutorankError as error:
        invalid = error
    if is_suspicious:
        with contextlib.suppress(AutorankError):
            return _columns(file, sheet, positions, quoted=False)[0]
    if invalid is not None:
        raise invalid
    return columns


def column_names(file: DataFile) -> list[str]:
    """Return the names of the columns of a csv or tsv file; raises as `read`."""
    return _sheet(file, ()).header


def _sheet(file: DataFile, names: Sequence[str]) -> _Sheet:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KB, is too small for long documents
    text = file.text()
    before = BEFORE_HEADER.match(text)
    start, declared = (before.end(), before[1]) if before else (0, None)
    separator, header = _header(file, text[start : start + 2**20], names, declared)
    return _Sheet(text[start:], text.count("\n", 0, start), separator, header)


def _columns(
    file: DataFile, sheet: _Sheet, positions: Mapping[str, int], quoted: bool = True
) -> tuple[dict[str, list[Any]], bool]:
    """The columns at these positions, and whether a field has both a tab and a line break."""
    columns: dict[str, list[Any]] = {name: [] for name in positions}
    lines = csv.reader(
        io.StringIO(sheet.text, newline=""), delimiter=sheet.separator, strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )  # fmt: skip
    first, suspicious = 1 + sheet.skipped, False  # first: line on which the row starts
    try:
        for number, row in enumerate(lines):
            line, first = first, lines.line_num + 1 + sheet.skipped
            if not number or _is_blank(row, sheet.header):
                continue
            if len(row) != len(sheet.header):
                separated = SEPARATORS.get(sheet.separator, sheet.separator)
                raise AutorankError(
                    f"{file}, line {line}: {counted(len(row), 'field')}, but the header has {len(sheet.header)}, "
                    f"separated by {separated}. Quote fields that hold the separator or line breaks."
                )
            suspicious |= first > line + 1 and any("\t" in field and "\n" in field for field in row)
            for name, position in positions.items():
                columns[name].append(row[position])
    except csv.Error as error:
        raise AutorankError(
            f"{file}, line {first}: not valid csv ({error}). Close the quotes of this row; write a quote inside "
            'quotes as "".'
        ) from error
    return columns, suspicious


def _header(file: DataFile, beginning: str, names: Sequence[str], declared: str | None) -> tuple[str, list[str]]:
    """The separator and the names of the columns, without blanks around them."""
    usual = sorted(SEPARATORS, key=lambda separator: separator != "\t") if file.suffix != ".csv" else list(SEPARATORS)
    headers = {separator: _first_row(beginning, separator) for separator in ([declared] if declared else usual)}
    for separator, header in headers.items():
        if names and set(names) <= set(header):
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
