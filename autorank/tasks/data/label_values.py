"""The meaning of labels: equal numbers are one class however they are written; blanks do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks.splits.table import Table, is_unicode

Meaning = Decimal | str  # equal for equal labels; numbers are exact

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)
INVISIBLE = re.compile("[\u200b\u2060\ufeff]")  # characters without width; those that join letters have a meaning
TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
# texts that csv files have for missing values, as pandas reads them
MISSING = {
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "None", "n/a",
    "null",
}  # fmt: skip
MAX_NAME_DIGITS = 40  # digits of a class's name; longer numbers are written with an exponent


def meanings(table: Table, name: str) -> list[Meaning]:
    """Return what each label means.

    Args:
        table: The table.
        name: The label column.

    Returns:
        A value for each row, equal for labels of the same class: numbers, text that is a number included, as Decimal;
        true and false in any form as `true` and `false`; other text without blanks around it, in Unicode's form NFKC.

    Raises:
        AutorankError: Labels are missing (null, NaN, blank text; in csv also `NA` and the like), or are neither text
            nor numbers.
    """
    labels = table[name]
    try:
        distinct = {(type(label), label): meaning(label) for label in labels}
        values = [distinct[type(label), label] for label in labels]
    except TypeError:  # not hashable
        values = [meaning(label) for label in labels]
    markers = {value for value in values if value in MISSING or is_nan(value)} if not table.typed else set()
    missing = [i for i, value in enumerate(values) if value == "" or value in markers]
    if missing:
        words = sorted({str(values[i]) for i in missing} - {""})
        hint = (
            f" In csv, {' and '.join(map(repr, words))} means a missing value: rename such a class, or use jsonl or "
            "parquet."
            if words
            else ""
        )
        raise AutorankError(
            f"Column {name!r} of {table.source} has no label in {table.rows(missing)}. Fill in these "
            f"labels or remove the rows.{hint}"
        )
    invalid = [i for i, value in enumerate(values) if value is None]
    if invalid:
        raise AutorankError(
            f"Column {name!r} of {table.source} has {str(labels[invalid[0]])[:80]!r} in {table.rows(invalid)}, "
            f"which is not a valid label. Use text or numbers."
        )
    return [value for value in values if value is not None]


def meaning(label: Any) -> Meaning | None:
    """Return what a label means; empty text if it is missing, None if it is neither text nor a number."""
    if isinstance(label, bool | np.bool_):
        return str(bool(label)).lower()
    if isinstance(label, str):
        return _of_text(label)
    if label is None:
        return ""
    if isinstance(label, int):
        return Decimal(label)
    if isinstance(label, float | Decimal | np.integer | np.floating):
        number = Decimal(str(label))
        return "" if number.is_nan() else number
    return None


def is_nan(value: Meaning | None) -> bool:
    """Whether a label is the text NaN, which means a missing value in csv and a class in formats with types."""
    return isinstance(value, str) and value.lower() in ("nan", "-nan", "+nan")


def class_name(value: Meaning) -> str:
    """Return a meaning as the name of a class: 1.0 as 1."""
    if isinstance(value, str):
        return value
    if not value.is_finite() or abs(value.adjusted()) > MAX_NAME_DIGITS:
        return str(value).lower()
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if value else "0"


def class_names(table: Table, name: str, values: Sequence[Meaning]) -> tuple[str, ...]:
    """Name the classes, numbers first and by value, then the others by name.

    Numbers are written in the shortest form if all labels are numbers, otherwise as they are written most often.

    Args:
        table: The table.
        name: The label column.
        values: What its labels mean.

    Returns:
        The names.
    """
    spellings: dict[Meaning, Counter[str]] = {}
    for label, value in zip(table[name], values, strict=True):
        spellings.setdefault(value, Counter())[_as_name(label) if isinstance(label, str) else class_name(value)] += 1
    if is_uniform(spellings):
        return tuple(class_name(value) for value in sorted(spellings))
    return tuple(_most_common(spellings[value]) for value in sorted(spellings, key=_order))


def is_uniform(values: Collection[Meaning]) -> bool:
    """Whether labels are all numbers, or all true or false; how they are written is then no part of their names."""
    return all(isinstance(value, Decimal) for value in values) or set(values) <= {"true", "false"}


def is_plain(label: str) -> bool:
    """Whether a text is an ordinary form of a number, true or false, which every reader of csv takes for it."""
    return label in TRUTH or label in TRUTH.values() or bool(NUMBER.fullmatch(label.strip(" ")))


def respelled(labels: Sequence[Any], classes: Sequence[str]) -> list[str]:
    """List texts that are read as a class whose name is written otherwise.

    Args:
        labels: Labels.
        classes: The name of each label's class.

    Returns:
        `'neg ' (4) as 'neg'`, the most frequent first.
    """
    counts = Counter((label, name) for label, name in zip(labels, classes, strict=True) if isinstance(label, str))
    return [
        f"{label!r} ({count:,}) as {name!r}" if label.isascii() else f"{label!a} ({count:,}) as {name!r}"
        for (label, name), count in counts.most_common()
        if label != name
    ]


def _of_text(text: str) -> Meaning | None:
    clean = _clean(unicodedata.normalize("NFKC", _clean(text)))
    if not is_unicode(clean):
        return None
    if NUMBER.fullmatch(clean):
        try:
            return Decimal(clean)
        except InvalidOperation:  # an exponent of more than 18 digits
            return clean
    return TRUTH.get(clean, clean)


def _clean(text: str) -> str:
    """The text without invisible characters and outer blanks; inner blanks become one space."""
    return " ".join(INVISIBLE.sub("", text).split())


def _as_name(text: str) -> str:
    return _clean(unicodedata.normalize("NFC", text))


def _most_common(counts: Counter[str]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))


def _order(value: Meaning) -> tuple[bool, Any]:
    return isinstance(value, str), value
