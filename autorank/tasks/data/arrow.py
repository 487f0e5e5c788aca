"""Tokenized splits as Arrow files, read as views of the memory-mapped file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.tasks.splits.tokenized import Split

S = TypeVar("S", bound=Split)

COLUMNS = {"truncated": "cut"}  # columns that are not named like their array, so that older files stay readable


def write(split: Split, path: Path) -> None:
    """Write a split atomically, as one record batch with one column per array.

    Args:
        split: The split.
        path: The file.

    Raises:
        AutorankError: The disk is full, or the directory is not writable.
    """
    import pyarrow as pa

    batch = pa.record_batch({COLUMNS.get(name, name): _column(split, name) for name in _arrays(split)})
    try:
        with atomic_io.writing(path) as partial, pa.ipc.new_file(str(partial), batch.schema) as writer:
            writer.write_batch(batch)
    except OSError as error:
        raise AutorankError(
            f"Cannot write tokenized data to {path.parent}: {error.strerror or error}. Free some space, or set "
            "AUTORANK_CACHE to another directory."
        ) from error


def read(path: Path, kind: type[S]) -> S | None:
    """Read a split as views of the memory-mapped file.

    Args:
        path: The file.
        kind: Class of the split.

    Returns:
        The split; None if the file is missing or broken.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        arrays: dict[str, Any] = dict.fromkeys(kind.RAGGED)
        for name in (field.name for field in fields(kind)):
            if COLUMNS.get(name, name) not in batch.schema.names:
                continue
            column = batch.column(COLUMNS.get(name, name))
            if name in kind.RAGGED:
                arrays[name], arrays[kind.RAGGED[name]] = column.values.to_numpy(), column.offsets.to_numpy()
            elif pa.types.is_fixed_size_list(column.type):
                arrays[name] = column.values.to_numpy().reshape(len(column), -1)
            else:
                arrays[name] = column.to_numpy()
        split = kind(**arrays)
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError):
        return None
    complete = len(split.offsets) == len(split.labels) + 1 and split.offsets[-1] == len(split.ids)
    return split if complete else None


def _arrays(split: Split) -> list[str]:
    """Names of the columns: all arrays except offsets, which are part of the ragged columns."""
    offsets = set(split.RAGGED.values())
    return [f.name for f in fields(split) if f.name not in offsets and isinstance(getattr(split, f.name), np.ndarray)]


def _column(split: Split, name: str) -> Any:
    import pyarrow as pa

    values = getattr(split, name)
    if name in split.RAGGED:
        return pa.LargeListArray.from_arrays(getattr(split, split.RAGGED[name]), values)
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])
    return pa.array(values)
