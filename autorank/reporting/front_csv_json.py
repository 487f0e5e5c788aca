"""Fronts for programs: rows of plain values, JSON, CSV; and CSV of any rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import best_gain
from autorank.trials.statistics.front_statistics import front_statistics

_COLUMNS = ("trial", "step", "method", "adapter_params", "cut_from", "nonzero_params", "score", "knee")


def front_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The front's points as plain values; numbers that are not finite become None."""
    statistics = front_statistics(snapshot)
    return [
        {
            "trial": point.trial,
            "step": point.step,
            "method": point.method,
            "adapter_params": point.adapter_params,
            "cut_from": point.cut_from,
            "nonzero_params": point.nonzero_params,
            "score": point.score,
            "seconds": point.seconds,
            "memory": point.memory,
            "knee": point.knee,
            "metrics": json_value(point.metrics),
            "settings": json_value(point.settings),
        }
        | ({"gain_over_baseline": best_gain(point, snapshot, stats)} if snapshot.baseline else {})
        | ({"certainty": asdict(certainty)} if certainty else {})
        | ({"confirmed": asdict(stats)} if stats else {})
        for point in snapshot.points
        for stats, certainty in [(statistics.confirmed.get(point.key), statistics.certainties.get(point.key))]
    ]


def front_json(snapshot: Snapshot) -> str:
    """The front's points as a JSON list of objects."""
    return json.dumps(front_rows(snapshot), indent=2, ensure_ascii=False, allow_nan=False)


def front_columns(snapshot: Snapshot) -> tuple[list[str], list[list[Any]]]:
    """The front's points as columns and rows: metrics as `metrics.NAME`, settings as `settings.NAME`."""
    flat = []
    for row in front_rows(snapshot):
        for group in ("metrics", "settings", "certainty", "confirmed"):
            row |= {f"{group}.{key}": value for key, value in row.pop(group, {}).items()}
        flat.append(row)
    columns = list(dict.fromkeys([*_COLUMNS, *(key for row in flat for key in row)]))
    return columns, [[_cell(row.get(key)) for key in columns] for row in flat]


def front_csv(snapshot: Snapshot) -> str:
    """The front's points as CSV with a header line."""
    return csv_text(*front_columns(snapshot))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format rows of plain values as CSV with a header line; None becomes an empty cell.

    Args:
        columns: The header.
        rows: The values of each row, in the order of the columns.

    Returns:
        The text.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def json_value(value: Any) -> Any:
    """A value for JSON: numbers that are not finite become None, unknown types become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
