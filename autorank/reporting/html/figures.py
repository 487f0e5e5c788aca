"""Parts of Plotly figures: layout, axes, fronts as stairs, points as markers.

They are plain values, so Plotly is not needed to make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from autorank.reporting.html.document import Figure
from autorank.reporting.html.trace_styles import escape_tags
from autorank.reporting.plots import log_params
from autorank.reporting.tables import THIRD_OBJECTIVE_COLUMNS, count, settings
from autorank.trials.point import Point, PointKey
from autorank.trials.statistics.certainty import Certainty

HOVER = "%{text}<extra></extra>"


def layout(x: str, y: str, height: int = 420, **values: Any) -> Figure:
    """The layout that all figures share.

    Args:
        x: Title of the x axis.
        y: Title of the y axis.
        height: Pixels.
        **values: Further fields, which take precedence.

    Returns:
        A layout as Plotly reads it.
    """
    axis = {"gridcolor": "var(--grid)", "linecolor": "var(--grid)", "zeroline": False, "automargin": True}
    fields = {
        "height": height, "margin": {"l": 56, "r": 16, "t": 16, "b": 48}, "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--ink)", "family": "system-ui, sans-serif", "size": 13},
        "hoverlabel": {
            "bgcolor": "var(--panel)", "bordercolor": "var(--grid)", "font": {"color": "var(--ink)"}, "align": "left",
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--quiet)", "activecolor": "var(--ink)"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis | {"title": {"text": x}}, "yaxis": axis | {"title": {"text": y}},
    }  # fmt: skip
    return fields | values


def set_params_axis(figure: Figure) -> Figure:
    """Make the x axis logarithmic: ticks at 1, 2, 5 times powers of ten if few decades are shown.

    Args:
        figure: Changed in place.

    Returns:
        The figure.
    """
    params = [x for trace in figure["data"] for x in trace["x"] if x is not None]
    few_decades = not params or max(params) < 1000 * min(params)
    figure["layout"]["xaxis"] |= {"type": "log", "tickformat": "~s", "dtick": "D2" if few_decades else 1}
    return figure


def stair(points: Sequence[Point], right: float, color: str, name: str, dashed: bool = False) -> Figure:
    """A front as a step function: the best score with at most x parameters.

    Args:
        points: The front, in ascending order of parameters.
        right: The parameters at which the line ends.
        color: A CSS color.
        name: The name in the legend.
        dashed: Draw a dashed line.

    Returns:
        A trace.
    """
    x, best_scores = [log_params(p.adapter_params) for p in points], list(accumulate((p.score for p in points), max))
    return {
        "type": "scatter", "mode": "lines", "x": [*x, max(right, x[-1])], "y": [*best_scores, best_scores[-1]],
        "line": {"shape": "hv", "color": color, "width": 2, "dash": "dash" if dashed else "solid"}, "name": name,
        "hoverinfo": "skip",
    }  # fmt: skip


def band(points: Sequence[Point], certain: Mapping[PointKey, Certainty], right: float, color: str) -> list[Figure]:
    """The 90% intervals of the scores of a front, as an area between two step functions.

    Args:
        points: The front, in ascending order of parameters.
        certain: Key of a point -> its certainty.
        right: The parameters at which the area ends.
        color: A CSS color.

    Returns:
        Two traces, the lower ends first; none if no point has an interval.
    """
    known = [point for point in points if point.key in certain]
    if not known:
        return []
    lows = stair([replace(p, score=certain[p.key].low) for p in known], right, color, "")
    highs = stair([replace(p, score=certain[p.key].high) for p in known], right, color, "90% interval")
    lows["line"] |= {"width": 0}
    highs["line"] |= {"width": 0}
    area = {"fill": "tonexty", "fillcolor": color, "opacity": 0.15}
    return [lows | {"showlegend": False, "opacity": 0.15}, highs | area]


def point_markers(
    points: Sequence[Point], name: str, marker: Figure, third_objective: str | None = None, **values: Any
) -> Figure:
    """Points as markers.

    Args:
        points: The points.
        name: The name in the legend.
        marker: Plotly's marker.
        third_objective: The search's third objective, for the hover text.
        **values: Further fields of the trace, which take precedence.

    Returns:
        A trace.
    """
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": marker, "hovertemplate": HOVER,
        "x": [log_params(p.adapter_params) for p in points], "y": [p.score for p in points],
        "text": [hover_text(p, third_objective=third_objective) for p in points],
    } | values  # fmt: skip


def hover_text(*points: Point, third_objective: str | None = None) -> str:
    """The text shown when the pointer is over a marker: the values of its points, and their settings.

    Args:
        *points: Points of one evaluation.
        third_objective: The search's third objective.

    Returns:
        Lines joined by `<br>`, escaped for Plotly.
    """
    first = points[0]
    lines = [f"{escape_tags(first.method)}, trial {first.trial}, step {first.step}"]
    for point in points:
        cut = "" if point.cut_from is None else f", cut from {count(point.cut_from)}"
        lines.append(f"<b>{count(point.adapter_params)} parameters, score {point.score:.4f}</b>{cut}")
        if third_objective is not None:
            lines.append(" ".join(third_objective_text(third_objective, point)))
    return "<br>".join([*lines, *(escape_tags(settings({name: value})) for name, value in first.settings.items())])


def third_objective_text(third_objective: str, point: Point) -> tuple[str, str]:
    """The third objective of a point.

    Args:
        third_objective: The search's third objective.
        point: The point.

    Returns:
        The objective's name and its value, as texts.
    """
    name, text = THIRD_OBJECTIVE_COLUMNS[third_objective]
    return name, text(point)
