"""The rank maps of a front's points as Plotly figures: layers x kinds of weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autorank.modeling import rank_map
from autorank.reporting.html.document import Figure
from autorank.reporting.html.figures import layout
from autorank.reporting.html.trace_styles import escape_tags
from autorank.reporting.tables import count
from autorank.trials.point import Point, ranks_at
from autorank.trials.record import TrialRecord

RANKS = ("var(--rank-1)", "var(--rank-2)", "var(--rank-3)", "var(--rank-4)")


def rank_maps(points: Sequence[Point], trials: Sequence[TrialRecord]) -> dict[str, tuple[str, Figure]]:
    """The rank maps of all points that have ranks.

    Args:
        points: Points of fronts.
        trials: All trials, by number.

    Returns:
        `option` of a point -> description and figure.
    """
    maps = {}
    for point in points:
        if ranks := ranks_at(point, trials):
            text = f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
            text += f" ({point.method}, {point.label})"
            maps[option(point)] = text, rank_map_figure(ranks)
    return maps


def option(point: Point) -> str:
    """Return the value of a point in the menu of rank maps: `TRIAL-STEP-PARAMETERS`."""
    return "-".join(map(str, point.key))


def rank_map_figure(ranks: Mapping[str, int]) -> Figure:
    """Ranks as a heat map, layers x kinds of weight, the first layer at the bottom.

    Args:
        ranks: Layer name -> rank; cells without an adapted layer are empty.

    Returns:
        The figure.
    """
    rows, columns, cells = rank_map.grid(ranks)
    highest = max(1, *ranks.values())
    first = 0.5 / highest  # rank 0 has a color of its own
    scale = [[0, "var(--rank-0)"], [first, "var(--rank-0)"]]
    scale += [[first + (1 - first) * i / (len(RANKS) - 1), color] for i, color in enumerate(RANKS)]
    heat_map = {
        "type": "heatmap", "z": cells, "y": [escape_tags(row) for row in rows],
        "x": [escape_tags(column).replace(".", ".<br>") for column in columns],
        "zmin": 0, "zmax": highest, "colorscale": scale, "showscale": False, "xgap": 2, "ygap": 2,
        "texttemplate": "%{z}", "hovertemplate": "layer %{y}, %{x}: rank %{z}<extra></extra>", "hoverongaps": False,
    }  # fmt: skip
    shape = layout("", "layer", 27 * len(rows) + 120)
    shape["xaxis"] |= {"type": "category", "showgrid": False, "tickangle": 0}
    shape["xaxis"]["title"] = {"text": rank_map.summary(ranks), "standoff": 14}
    shape["yaxis"] |= {"type": "category", "showgrid": False}
    return {"data": [heat_map], "layout": shape}
