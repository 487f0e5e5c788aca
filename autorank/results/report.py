"""Fronts, trials and ranks as text: tables for a terminal of 80 columns, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autorank.modeling import rank_map
from autorank.results.front import Point, hypervolume
from autorank.results.records import State, TrialRecord

_COLUMNS = ("trial", "step", "adapter_params", "nonzero_params", "score", "knee")
_STYLES: dict[State, str] = {"complete": "green", "running": "cyan", "pruned": "yellow", "failed": "red"}


def count(number: float) -> str:
    """A count in three digits: 860, 9.22k, 147k, 1.18M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g}{name}"
    return str(round(number))


def duration(seconds: float) -> str:
    """48s, 3m 20s, 2h 05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def settings(config: Mapping[str, Any]) -> str:
    """`threshold 0.9, lr 0.0005`: the learning rate is in every space, so it gets its usual short name."""
    names = {"learning_rate": "lr"}
    return ", ".join(f"{names.get(key, key)} {_value(value)}" for key, value in config.items())


def front_table(points: Sequence[Point], varied: Sequence[str] | None = None) -> Table:
    """The front, a row a point. `varied`: the settings to show; None: those that differ between points."""
    varied = _differing([point.config for point in points]) if varied is None else varied
    table = _table("trial>", "step>", "parameters>", "score>", "", "settings")
    for point in points:
        table.add_row(
            str(point.trial),
            str(point.step),
            count(point.adapter_params),
            f"{point.score:.4f}",
            "knee" if point.knee else "",
            settings({key: point.config[key] for key in varied if key in point.config}),
            style="bold" if point.knee else None,
        )
    return table


def trials_table(trials: Sequence[TrialRecord]) -> Table:
    """Every trial with its best evaluation, and the reason of those that failed or were stopped."""
    varied = _differing([trial.config for trial in trials])
    table = _table("trial>", "state", "parameters>", "score>", "time>", "settings")
    for trial in trials:
        finite = [e for e in trial.evaluations if math.isfinite(e.score)]
        best = max(finite, key=lambda e: (e.score, -e.adapter_params), default=None)
        about = Text(settings({key: trial.config[key] for key in varied if key in trial.config}))
        if trial.reason:
            about = Text(trial.reason, style=_STYLES[trial.state])
        table.add_row(
            str(trial.number),
            Text(trial.state, style=_STYLES[trial.state]),
            count(best.adapter_params) if best else "",
            f"{best.score:.4f}" if best else "",
            duration(trial.seconds) if trial.seconds else "",
            about,
        )
    return table


def front_summary(
    trials: Sequence[TrialRecord], points: Sequence[Point], reference: tuple[float, float],
    varied: Sequence[str] | None = None,
) -> RenderableType:  # fmt: skip
    """The front, its hypervolume, and the trials that failed or were stopped with their reasons."""
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(
        f"{states[state]} {state}" for state in ("complete", "pruned", "failed", "running") if states[state]
    )
    if not points:
        return Group(
            Text(f"No front yet: no evaluation has a finite score ({counts or 'no trials'})."),
            trials_table(trials),
        )
    rows: list[RenderableType] = [
        front_table(points, varied),
        Text(f"\n{len(points)} of {sum(len(t.evaluations) for t in trials)} evaluations are on the front, "
             f"from {counts}; hypervolume {hypervolume(points, reference):.4f}"),
    ]  # fmt: skip
    if odd := [trial for trial in trials if trial.state in ("failed", "pruned")]:
        rows += [Text(), trials_table(odd)]
    return Group(*rows)


def rank_table(ranks: Mapping[str, int]) -> Table:
    """The rank of each layer and kind, the first layer at the bottom as in the figure."""
    rows, columns, cells = rank_map.grid(ranks)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("layer", justify="right", vertical="bottom", no_wrap=True)
    for column in columns:
        table.add_column(column.replace(".", ".\n"), justify="right", vertical="bottom", overflow="fold")
    for label, row in reversed(list(zip(rows, cells, strict=True))):
        table.add_row(label, *(Text("" if rank is None else str(rank), "" if rank else "dim") for rank in row))
    return table


def front_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points as plain values; numbers that are not finite, which JSON lacks, become None."""
    return [
        {
            "trial": point.trial,
            "step": point.step,
            "adapter_params": point.adapter_params,
            "nonzero_params": point.nonzero_params,
            "score": point.score,
            "knee": point.knee,
            "metrics": _plain(point.metrics),
            "config": _plain(point.config),
        }
        for point in points
    ]


def front_json(points: Sequence[Point]) -> str:
    """The points as a JSON list of objects."""
    return json.dumps(front_rows(points), indent=2, ensure_ascii=False, allow_nan=False)


def front_columns(points: Sequence[Point]) -> tuple[list[str], list[list[Any]]]:
    """The points as a flat table, columns and rows: metrics as `metrics.NAME`, settings as `config.NAME`."""
    flat = []
    for row in front_rows(points):
        metrics, config = row.pop("metrics"), row.pop("config")
        row |= {f"metrics.{key}": value for key, value in metrics.items()}
        row |= {f"config.{key}": value for key, value in config.items()}
        flat.append(row)
    columns = list(dict.fromkeys([*_COLUMNS, *(key for row in flat for key in row)]))
    return columns, [[_cell(row.get(key)) for key in columns] for row in flat]


def front_csv(points: Sequence[Point]) -> str:
    """The points as CSV with a header line."""
    columns, rows = front_columns(points)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def _table(*headers: str) -> Table:
    """A plain table; a header that ends in `>` is right-aligned. Only the last column wraps."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers[:-1]:
        right = header.endswith(">")
        table.add_column(header.removesuffix(">"), justify="right" if right else "left", no_wrap=True)
    table.add_column(headers[-1], overflow="fold")
    return table


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same everywhere, in order of appearance."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ",".join(_value(item) for item in value)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
