"""The ranks of an adapter as a Matplotlib figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from autorank.modeling import rank_map
from autorank.reporting.plots import INK, LINE, QUIET, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_RANK, RANKS = "#f3f4f6", ("#d6e5fb", "#8fbaf5", LINE, "#0b3d91")  # rank 0; from rank 1 to the highest


def rank_map_figure(ranks: Mapping[str, int], title: str) -> Figure:
    """The rank of each layer and kind of weight as a heat map, the first layer at the bottom.

    Cells have a fixed size in inches, and the figure grows with them.

    Args:
        ranks: Layer name -> rank; cells without an adapted layer are empty.
        title: The figure's title.

    Returns:
        The figure.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    rows, columns, cells = rank_map.grid(ranks)
    kinds = [column.replace(".", ".\n") for column in columns]
    summary = rank_map.summary(ranks)
    cell = max(0.5, 0.075 * _widest(kinds) + 0.12)
    left, bottom, right, top = 0.6 + 0.075 * _widest(rows), 0.4 + 0.14 * max(k.count("\n") for k in kinds), 0.2, 0.6
    width, height = cell * len(columns), 0.27 * len(rows)
    figure_size = (left + max(width, 0.1 * _widest([title, summary])) + right, bottom + height + top)
    figure = Figure(figsize=figure_size, dpi=150)
    axes = figure.add_axes(
        (left / figure_size[0], bottom / figure_size[1], width / figure_size[0], height / figure_size[1])
    )
    highest = max(1, *ranks.values())
    shades = LinearSegmentedColormap.from_list("ranks", RANKS).with_extremes(under=NO_RANK)
    values = [[math.nan if rank is None else rank for rank in row] for row in cells]
    axes.pcolormesh(values, cmap=shades, vmin=0.5, vmax=highest, edgecolors="white", linewidth=1.5)
    for y, row in enumerate(cells):
        for x, rank in enumerate(row):
            if rank is not None:
                color = QUIET if rank == 0 else "white" if rank > 0.55 * highest else INK
                axes.text(x + 0.5, y + 0.48, str(rank), ha="center", va="center", color=color, fontsize=9)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", pad=24, parse_math=False)
    axes.annotate(summary, (0, 1), (0, 9), "axes fraction", "offset points", color=INK, fontsize=10)
    axes.set_xticks([x + 0.5 for x in range(len(columns))], kinds, parse_math=False)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows, parse_math=False)
    axes.set_ylabel("layer", color=INK)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    return figure


@lru_cache(maxsize=256)
def rank_map_png(ranks: tuple[tuple[str, int], ...], title: str) -> bytes:
    """`rank_map_figure` as PNG. Cached, since drawing takes 0.1 s and many trials have the same ranks.

    Args:
        ranks: (layer name, rank) of each layer.
        title: The figure's title.

    Returns:
        The PNG file's content.
    """
    return png(rank_map_figure(dict(ranks), title))


def _widest(texts: Sequence[str]) -> int:
    """Number of characters of the longest line."""
    return max(len(line) for text in texts for line in text.split("\n"))
