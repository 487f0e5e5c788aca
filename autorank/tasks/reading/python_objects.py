"""Data that Python code has in memory: pandas DataFrames and datasets of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from autorank import atomic_io, cache
from autorank.errors import AutorankError
from autorank.tasks.reading import arrow_tables
from autorank.tasks.reading.columns import find, locate
from autorank.tasks.reading.file_set import SPLITS_FILE


def store(data: Any, names: Collection[str] = (), optional: Collection[str] = ()) -> str:
    """Write data to the cache directory, where searches and their workers find it by its content.

    Args:
        data: A pandas DataFrame, or a Dataset or DatasetDict of datasets.
        names: The columns to write; parts of nested ones with dots. Empty: all.
        optional: More columns to write, if the data has them.

    Returns:
        The path: a file, or of a DatasetDict a directory with a file for each split.

    Raises:
        AutorankError: A requested column is missing in all splits, the data has several columns of a requested name,
            values are nested too deeply, or the cache is not writable.
    """
    splits = dict(data) if isinstance(data, Mapping) else {"": data}
    if names:
        available = list(dict.fromkeys(name for part in splits.values() for name in _names(part)))
        locate("The data", tuple(names), available)
        names = [*names, *(name for name in optional if name in available)]
    try:
        contents = {split: "".join(_lines(part, names)) for split, part in splits.items()}
    except RecursionError as error:
        raise AutorankError("The data has values that are nested too deeply. Flatten or remove them.") from error
    kind = "dataframe" if hasattr(data, "iloc") else "dataset"
    folder = cache.folder() / "data" / cache.key(contents)[:16]
    try:
        for split, content in contents.items():
            with atomic_io.writing(folder / kind / f"{split or kind}.jsonl") as partial:
                partial.write_text(content, encoding="utf-8")
        if "" not in contents:
            with atomic_io.writing(folder / kind / SPLITS_FILE) as partial:
                partial.write_text(json.dumps({"splits": list(contents)}), encoding="utf-8")
    except OSError as error:
        raise AutorankError(
            f"Cannot write data to {folder}: {error.strerror or error}. Free some space, or set AUTORANK_CACHE to "
            "another directory."
        ) from error
    return str(folder / kind / (f"{kind}.jsonl" if "" in contents else ""))


def _names(data: Any) -> list[str]:
    return [str(name) for name in (data.columns if hasattr(data, "iloc") else data.column_names)]


def _lines(data: Any, names: Collection[str]) -> Iterator[str]:
    """The rows as lines of JSON; columns that are not requested are left out."""
    available = _names(data)
    roots = {location.column for name in names if (location := find(name, available))}
    positions = [i for i, name in enumerate(available) if not names or name in roots]
    chosen = [available[i] for i in positions]
    if duplicates := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise AutorankError(f"The data has several columns named {duplicates[0]!r}. Rename all but one.")
    if hasattr(data, "iloc"):
        columns = [map(_plain, data.iloc[:, i].to_numpy()) for i in positions]
    elif chosen:
        table = data.select_columns(chosen).with_format("arrow")[:]
        read = arrow_tables.select("The data", table, chosen, data.features.to_dict())
        columns = [map(_plain, read[name]) for name in chosen]
    else:
        columns = []
    for row in zip(*columns, strict=True):
        yield json.dumps(dict(zip(chosen, row, strict=True))) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; missing ones become null, other objects an object that names their class."""
    if isinstance(value, np.datetime64 | np.timedelta64):  # the latter is also an np.integer
        return None if np.isnat(value) else {"unsupported": type(value).__name__}
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, np.floating | float):
        return None if np.isnan(value) else float(str(value))  # short floats as they are written
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Decimal):
        return None if value.is_nan() else str(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [_plain(item) for item in sorted(value, key=str)]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    kind = type(value).__name__
    return None if kind in ("NAType", "NaTType") else {"unsupported": kind}
