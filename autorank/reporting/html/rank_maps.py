"""The rank maps of a front's points as Plotly figures: layers x kinds of weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autorank.modeling import rank_map
from autorank.reporting.html.document import Figure
from autorank.reporting.html.figures import layout
from autorank.reporting.html.trace_styles import safe
from autorank.reporting.tables import count
from autorank.trials.front import Point
from autorank.trials.record import TrialRecord

RANKS = ("var(--rank-1)", "var(--rank-2)", "var(--rank-3)", "var(--rank-4)")


def rank_maps(points: Sequence[Point], trials: Sequence[TrialRecord]) -> dict[str, tuple[str, Figure]]:
    """`TRIAL-STEP` -> text and figure, of the points that have ranks."""
    found = {}
    for point in points:
        if ranks := ranks_at(point, trials):
            text = f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
            text += f" ({point.method}, trial {point.trial}, step {point.step})"
            found[f"{point.trial}-{point.step}"] = text, rank_map_figure(ranks)
    return found


def ranks_at(point: Point, trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Module -> rank; nothing for methods without low-rank updates."""
    return next(e.ranks for e in trials[point.trial].evaluations if e.step == point.step)


def rank_map_figure(ranks: Mapping[str, int]) -> Figure:
    """Layers x kinds, the first layer at the bottom; where nothing is adapted, nothing."""
    rows, columns, cells = rank_map.grid(ranks)
    highest = max(1, *ranks.values())
    first = 0.5 / highest  # rank 0 has a colour of its own
    scale = [[0, "var(--rank-0)"], [first, "var(--rank-0)"]]
    scale += [[first + (1 - first) * i / (len(RANKS) - 1), color] for i, color in enumerate(RANKS)]
    heat = {
        "type": "heatmap", "z": cells, "y": [safe(row) for row in rows],
        "x": [safe(column).replace(".", ".<br>") for column in columns],
        "zmin": 0, "zmax": highest, "colorscale": scale, "showscale": False, "xgap": 2, "ygap": 2,
        "texttemplate": "%{z}", "hovertemplate": "layer %{y}, %{x}: rank %{z}<extra></extra>", "hoverongaps": False,
    }  # fmt: skip
    shape = layout("", "layer", 27 * len(rows) + 120)
    shape["xaxis"] |= {"type": "category", "showgrid": False, "tickangle": 0}
    shape["xaxis"]["title"] = {"text": rank_map.summary(ranks), "standoff": 14}
    shape["yaxis"] |= {"type": "category", "showgrid": False}
    return {"data": [heat], "layout": shape}
