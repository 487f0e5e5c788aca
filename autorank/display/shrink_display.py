"""The sizes of a shrunk adapter: as a table, JSON, CSV and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from autorank.reporting.front_csv_json import csv_text
from autorank.reporting.plots import front_figure
from autorank.reporting.tables import count, plain_table
from autorank.shrinking.cutting import Size
from autorank.shrinking.size_choice import as_dict, front_of
from autorank.training.evaluation import Evaluation, Slice
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot


def table(sizes: Sequence[Size], chosen: Size | None) -> Table:
    """The sizes as a table, one row each.

    Args:
        sizes: The sizes in ascending order of parameters, the whole adapter last.
        chosen: The size to mark.

    Returns:
        The table.
    """
    full_size, scored = sizes[-1], sizes[-1].score is not None
    sizes_table = plain_table()
    for header in ("parameters", "of whole", "energy", *(["score"] if scored else [])):
        sizes_table.add_column(header, justify="right")
    sizes_table.add_column("")
    front = {point.adapter_params for point in front_of(sizes)} if scored else set()
    size_chosen = None if chosen is None else chosen.adapter_params
    for size in sizes:
        marks = ["whole"] if size is full_size else []
        marks += ["chosen"] if size.adapter_params == size_chosen else []
        marks += ["a smaller size scores as much"] if scored and size.adapter_params not in front else []
        sizes_table.add_row(
            count(size.adapter_params), f"{size.adapter_params / full_size.adapter_params:.1%}", f"{size.energy:.1%}",
            *([f"{size.score:.4f}"] if size.score is not None else []), ", ".join(marks),
            style="bold" if size.adapter_params == size_chosen else None,
        )  # fmt: skip
    return sizes_table


def as_json(sizes: Sequence[Size], chosen: Size | None) -> str:
    """The sizes as a JSON list of objects.

    Args:
        sizes: The sizes in ascending order of parameters.
        chosen: The size that gets `"chosen": true`.

    Returns:
        The text.
    """
    return json.dumps(_rows(sizes, chosen), indent=2)


def _rows(sizes: Sequence[Size], chosen: Size | None) -> list[dict[str, Any]]:
    params = None if chosen is None else chosen.adapter_params
    return [as_dict(size) | {"chosen": size.adapter_params == params} for size in sizes]


def as_csv(sizes: Sequence[Size], chosen: Size | None) -> str:
    """The sizes as CSV; metrics as `metrics.NAME`. For the arguments see `as_json`."""
    rows = []
    for values in _rows(sizes, chosen):
        values.pop("ranks", None)
        values |= {f"metrics.{name}": value for name, value in values.pop("metrics", {}).items()}
        rows.append(values)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return csv_text(columns, [[row.get(key) for key in columns] for row in rows])


def draw(sizes: Sequence[Size], title: str, file: Path) -> None:
    """Draw the scores over the parameters.

    Args:
        sizes: Scored sizes, the whole adapter last.
        title: The figure's title.
        file: .png, .svg or .pdf.
    """
    from autorank.reporting.html_report import save_figure

    full_size = sizes[-1]
    slices = [
        Slice(size.adapter_params, float(size.score or 0.0), dict(size.metrics or {}), size.component_masks or {})
        for size in sizes[:-1]
    ]
    params = full_size.adapter_params
    evaluation = Evaluation(
        step=0, epoch=0.0, score=float(full_size.score or 0.0), metrics=dict(full_size.metrics or {}), train_loss=0.0,
        adapter_params=params, nonzero_params=params, trainable_params=params, head_params=0, ranks={}, seconds=0.0,
        peak_memory=0, slices=tuple(slices),
    )  # fmt: skip
    snapshot = Snapshot([TrialRecord(0, "", {}, "complete", (evaluation,))], front_of(sizes), [])
    save_figure(front_figure(snapshot, title), file)
