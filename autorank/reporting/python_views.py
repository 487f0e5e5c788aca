"""Fronts and ranks in Python: a list and a dict that are displayed as tables, in notebooks as HTML."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from autorank.modeling import rank_map
from autorank.reporting.front_csv_json import front_columns
from autorank.reporting.notebook_html import table_html
from autorank.reporting.tables import NOTHING, front_table, rank_table
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 120  # columns


class Front(list[Point]):
    """The points of a front, in ascending order of parameters.

    Args:
        points: The points.
        snapshot: The search, for gains and scores with new seeds.
        varied: Settings to show; None: those that differ between points.
    """

    def __init__(
        self, points: Iterable[Point], snapshot: Snapshot = NOTHING, varied: Sequence[str] | None = None
    ) -> None:
        super().__init__(points)
        self._varied = varied
        self._snapshot = replace(snapshot, points=list(self))

    @property
    def knee(self) -> Point | None:
        """The knee of the front; None if the front is empty."""
        return next((point for point in self if point.knee), None)

    def to_frame(self) -> pd.DataFrame:
        """The front as a data frame, one row per point: metrics as `metrics.NAME`, settings as `settings.NAME`."""
        import pandas as pd

        columns, rows = front_columns(self._snapshot)
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        return _text(self._table()) if self else "no points"

    def _repr_html_(self) -> str:
        return table_html(self._table())

    def _table(self) -> Table:
        return front_table(self, self._snapshot, self._varied)


class Ranks(dict[str, int]):
    """The rank of each layer at a point of a front.

    Args:
        ranks: Layer name -> rank.
        point: The point.
    """

    def __init__(self, ranks: Mapping[str, int], point: Point) -> None:
        super().__init__(ranks)
        self.point = point

    def write(self, to: Path, title: str) -> None:
        """Write the ranks to a file.

        Args:
            to: A JSON file, or a figure with another suffix.
            title: The figure's title.
        """
        if to.suffix == ".json":
            rank_map.write(to, self)
        else:
            from autorank.reporting.html_report import save_figure
            from autorank.reporting.rank_plots import rank_map_figure

            save_figure(rank_map_figure(self, title), to)

    def __repr__(self) -> str:
        return _text(rank_table(self))

    def _repr_html_(self) -> str:
        return table_html(rank_table(self))


def enable_inline_figures() -> None:
    """Make a notebook display figures that were made without pyplot, unless it does already."""
    if not Console().is_jupyter:
        return
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib.figure import Figure

    shell = get_ipython()
    if not any(Figure in formatter for formatter in shell.display_formatter.formatters.values()):
        select_figure_formats(shell, {"png"})


def _text(table: Table) -> str:
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
