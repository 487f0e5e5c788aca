"""Reads parquet and Arrow files, and tables of Hub datasets."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from autorank.errors import AutorankError
from autorank.tasks.reading import columns
from autorank.tasks.reading.data_file import DataFile

METADATA = b"huggingface"  # key under which datasets stores the types of columns
FEATHER_1 = b"FEA1"  # first bytes of version 1 of the format
JSON = "extension<arrow.json>"  # Arrow's type of JSON text


def read(file: DataFile, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a parquet or Arrow file.

    Args:
        file: The file.
        names: The requested columns.

    Returns:
        Column name -> the values of all rows; class numbers are replaced by names where the file has them.

    Raises:
        AutorankError: pyarrow is missing, the file is invalid, or a column is missing or a duplicate.
    """
    with _opened(file) as content:
        table = _parquet(file, content, names) if file.suffix == ".parquet" else _arrow(content).read_all()
        return select(str(file), table, names, _features(table))


def column_names(file: DataFile) -> list[str]:
    """Return the names of the columns of a parquet or Arrow file; raises as `read`."""
    with _opened(file) as content:
        if file.suffix != ".parquet":
            return list(_arrow(content).schema.names)
        import pyarrow.parquet as pq

        return list(pq.read_schema(content).names)


def select(source: str, table: Any, names: Sequence[str], features: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return columns of an Arrow table as lists.

    Args:
        source: Where the table comes from, for messages.
        table: The table.
        names: The requested columns.
        features: Types of columns, as datasets stores them.

    Returns:
        Column name -> the values of all rows.

    Raises:
        AutorankError: A column is missing or a duplicate.
    """
    return columns.select(
        source, names, table.schema.names, lambda column: _values(table.column(column), features.get(column))
    )


@contextlib.contextmanager
def _opened(file: DataFile) -> Iterator[IO[bytes]]:
    """The content of a file; errors of pyarrow become errors that name the file."""
    kind = "parquet" if file.suffix == ".parquet" else "Arrow"
    try:
        import pyarrow as pa
    except ImportError as error:
        raise AutorankError(
            f"{file}: {kind} files need pyarrow. Run `pip install pyarrow`, or use csv or jsonl."
        ) from error
    try:
        with file.open() as content:
            yield content
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise AutorankError(f"{file} is not a valid {kind} file: {error}. Write or copy it again.") from error


def _parquet(file: DataFile, content: IO[bytes], names: Sequence[str]) -> Any:
    """The requested columns, with all parts of nested ones."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(content) as parquet:
        locations = columns.locate(file, names, parquet.schema_arrow.names)
        return parquet.read(columns=list({location.column for location in locations.values()}))


def _features(table: Any) -> dict[str, Any]:
    """The types of columns that datasets has stored; none if another program wrote the metadata."""
    features = json.loads((table.schema.metadata or {}).get(METADATA, "null"))
    for key in ("info", "features"):
        features = features.get(key) if isinstance(features, dict) else None
    return features if isinstance(features, dict) else {}


def _arrow(content: IO[bytes]) -> Any:
    """The reader of an Arrow file or stream (which datasets writes), or of a Feather file."""
    import pyarrow as pa
    import pyarrow.feather

    beginning = content.read(len(FEATHER_1))
    content.seek(0)
    if beginning == FEATHER_1:
        return pyarrow.feather.read_table(content).to_reader()
    try:
        return pa.ipc.open_file(content)
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content)


def _values(column: Any, feature: Any) -> list[Any]:
    """A column's values; short floats as they are written: 0.1, not 0.10000000149; JSON text decoded."""
    import numpy as np
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    for is_short, short in ((pa.types.is_float32, np.float32), (pa.types.is_float16, np.float16)):
        if is_short(column.type):
            return [None if value is None else float(str(short(value))) for value in values]
    if feature is None and JSON in str(column.type):
        feature = _json_feature(column.type)
    if re.search("ClassLabel|Json", json.dumps(feature)):
        return [_decoded(value, feature) for value in values]
    return values


def _json_feature(kind: Any) -> Any:
    """An Arrow type as datasets stores it, as far as it contains JSON text."""
    import pyarrow as pa

    if str(kind) == JSON:
        return {"_type": "Json"}
    if pa.types.is_struct(kind):
        return {field.name: _json_feature(field.type) for field in kind}
    return [_json_feature(kind.value_type)] if hasattr(kind, "value_type") else None


def _decoded(value: Any, feature: Any) -> Any:
    """A value with JSON text decoded and class numbers named; -1, which marks a missing label, becomes None."""
    kind = feature.get("_type") if isinstance(feature, dict) else None
    if kind == "Json" and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    if kind == "ClassLabel" and isinstance(value, int):
        names = feature.get("names") or []
        return names[value] if 0 <= value < len(names) else (None if value == -1 else value)
    # a Sequence of dicts is stored as a dict of lists, whose features are those of the items
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) else (feature or {}).get("feature", feature)
        return [_decoded(item, inner) for item in value]
    if isinstance(value, dict) and isinstance(feature, dict):
        fields = (feature.get("feature") or {}) if isinstance(kind, str) else feature
        return {key: _decoded(item, fields.get(key)) for key, item in value.items()}
    return value
