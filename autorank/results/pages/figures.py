"""The pictures of a search as Plotly figures: its fronts, how they grew, learning curves, rank maps.

Figures are plain values, so that making them needs no Plotly. Texts in them are escaped: Plotly reads tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import accumulate
from typing import Any

from autorank.modeling import rank_map
from autorank.results.archive import Snapshot
from autorank.results.confirmed import summarise
from autorank.results.front import History, Point, candidates
from autorank.results.pages.document import Figure
from autorank.results.records import TrialRecord
from autorank.results.report import count, settings
from autorank.spec import ObjectivesSpec

HUES = 8  # var(--hue-0) to var(--hue-7)
UNITS = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
HOVER = "%{text}<extra></extra>"
RANKS = ("var(--rank-1)", "var(--rank-2)", "var(--rank-3)", "var(--rank-4)")


def safe(text: str) -> str:
    """A user's text as Plotly shows it letter by letter."""
    return escape(text, quote=False)


def hues(snapshot: Snapshot) -> dict[str, str]:
    """Method -> its colour in all figures of a search; that of the front where there is one method.

    Where there are more than colours, those on the front have different ones.
    """
    first = {point.method for point in snapshot.points}
    every = {trial.method for trial in snapshot.trials if not trial.control}
    methods = [*sorted(every & first), *sorted(every - first)]
    return {method: hue(i) if len(methods) > 1 else "var(--line)" for i, method in enumerate(methods)}


def hue(index: int) -> str:
    """The colour of a search's or a comparison's n-th part."""
    return f"var(--hue-{index % HUES})"


def layout(x: str, y: str, height: int = 420, **values: Any) -> Figure:
    """What all figures share; axis titles are given."""
    axis = {"gridcolor": "var(--grid)", "linecolor": "var(--grid)", "zeroline": False, "automargin": True}
    known = {
        "height": height, "margin": {"l": 56, "r": 16, "t": 16, "b": 48}, "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--ink)", "family": "system-ui, sans-serif", "size": 13},
        "hoverlabel": {
            "bgcolor": "var(--panel)", "bordercolor": "var(--grid)", "font": {"color": "var(--ink)"}, "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis | {"title": {"text": x}}, "yaxis": axis | {"title": {"text": y}},
    }  # fmt: skip
    return known | values


def params_axis(figure: Figure) -> Figure:
    """The x axis as parameters, logarithmic: ticks at 1, 2, 5 times powers of ten where few decades are shown."""
    shown = [x for trace in figure["data"] for x in trace["x"]]
    few = not shown or max(shown) < 1000 * min(shown)
    figure["layout"]["xaxis"] |= {"type": "log", "tickformat": "~s", "dtick": "D2" if few else 1}
    return figure


def stair(points: Sequence[Point], right: float, color: str, name: str, dashed: bool = False) -> Figure:
    """A front: between two of its points, the best score of the smaller ones is what can be had."""
    x, highest = [_drawn(p.adapter_params) for p in points], list(accumulate((p.score for p in points), max))
    return {
        "type": "scatter", "mode": "lines", "x": [*x, max(right, x[-1])], "y": [*highest, highest[-1]], "name": name,
        "line": {"shape": "hv", "color": color, "width": 2, "dash": "dash" if dashed else "solid"}, "hoverinfo": "skip",
    }  # fmt: skip


def front(snapshot: Snapshot, reference: tuple[float, float]) -> Figure:
    """All evaluations, both fronts, what confirmed them, the knee; and the point that the slider picks (the last)."""
    everything = candidates(snapshot.trials)
    right = max([_drawn(reference[0]), *(_drawn(p.adapter_params) for p in everything)])
    traces = [marks(everything, "evaluations", {"color": "var(--quiet)", "size": 6, "opacity": 0.4})]
    if snapshot.control:
        traces.append(stair(snapshot.control, right, "var(--control)", "plain LoRA's front", dashed=True))
        traces.append(marks(snapshot.control, "", {"color": "var(--control)", "size": 7}, showlegend=False))
    if snapshot.points:
        traces.append(stair(snapshot.points, right, "var(--line)", "front"))
        for method, color in (colors := hues(snapshot)).items():
            own = [p for p in snapshot.points if p.method == method]
            traces.append(marks(own, safe(method), {"color": color, "size": 9}, showlegend=len(colors) > 1))
    for points, color in ((snapshot.control, "var(--control)"), (snapshot.points, "var(--ink)")):
        if confirmed := summarise(points, snapshot.confirmed):
            again = [p for p in points if (p.trial, p.step) in confirmed]
            found = [confirmed[p.trial, p.step] for p in again]
            means = [replace(p, score=c.mean) for p, c in zip(again, found, strict=True)]
            name = "fresh seeds: mean ± sd" + (" (plain LoRA)" if points is snapshot.control else "")
            traces.append(
                marks(means, name, {"color": color, "size": 8, "symbol": "diamond"})
                | {"text": [f"trial {p.trial}: {c}, {c.seeds} seeds" for p, c in zip(again, found, strict=True)]}
                | {"error_y": {"array": [c.sd or 0.0 for c in found], "color": color, "thickness": 1.5}}
            )
    knee = [p for p in snapshot.points if p.knee]
    for name, size, color in (("knee", 17, "var(--knee)"), ("chosen below", 25, "var(--chosen)")):
        ring = {"symbol": "circle-open", "size": size, "color": color, "line": {"width": 2}}
        traces.append(marks(knee, name, ring, hoverinfo="skip", hovertemplate=None))
    return params_axis({"data": traces, "layout": layout("adapter parameters", "score", 480)})


def growth(snapshot: Snapshot, reference: tuple[float, float], objectives: ObjectivesSpec) -> dict[str, Figure]:
    """Hypervolume after each trial that ended, over time and over training steps; each front counts its own steps."""
    ended = sorted((t for t in snapshot.trials if t.state != "running"), key=lambda t: (t.ended, t.number))
    if not ended:
        return {}
    began = min(trial.started for trial in snapshot.trials)
    whole = ended[-1].ended - began
    unit, name = next((size, name) for least, size, name in UNITS if whole >= least)
    times, steps = [], []
    for control, label, color in ((False, "front", "var(--line)"), (True, "plain LoRA's front", "var(--control)")):
        own = [trial for trial in ended if trial.control == control]
        if not own:
            continue
        grown = History(reference, objectives).update([replace(trial, control=False) for trial in own])
        trace = {
            "type": "scatter", "mode": "lines", "name": label, "y": [step.hypervolume for step in grown],
            "line": {"shape": "hv", "color": color, "width": 2, "dash": "dash" if control else "solid"},
            "text": [f"after trial {trial.number}" for trial in own],
            "hovertemplate": "%{text}: %{y:.4f}<extra></extra>",
        }  # fmt: skip
        times.append(trace | {"x": [(step.at - began) / unit for step in grown]})
        steps.append(trace | {"x": list(accumulate(trial.step for trial in own))})
    over = {"time": (times, f"{name} since the first trial began"), "steps": (steps, "training steps of ended trials")}
    found: dict[str, Figure] = {
        f"growth-{key}": {"data": traces, "layout": layout(x, "hypervolume", 340)} for key, (traces, x) in over.items()
    }
    for figure in found.values():
        figure["layout"]["xaxis"]["rangemode"] = "tozero"
    return found


def curves(snapshot: Snapshot) -> Figure | None:
    """Score by step, a line a trial; the ends of stopped and failed trials and the points of the front are marked."""
    trials = [trial for trial in snapshot.trials if trial.evaluations]
    if not trials:
        return None
    traces = []
    colors = hues(snapshot)
    for control, method in sorted({(trial.control, trial.method) for trial in trials}):
        own = [t for t in trials if (t.control, t.method) == (control, method)]
        x = [e for t in own for e in (*(e.step for e in t.evaluations), None)]
        y = [e for t in own for e in (*(e.score for e in t.evaluations), None)]
        text = [e for t in own for e in (*(f"trial {t.number}" for _ in t.evaluations), None)]
        color, name = ("var(--control)", f"{safe(method)} (control)") if control else (colors[method], safe(method))
        traces.append({
            "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "text": text, "opacity": 0.6,
            "line": {"color": color, "width": 1.3, "dash": "dash" if control else "solid"},
            "hovertemplate": "%{text}, step %{x}: %{y:.4f}<extra></extra>",
        })  # fmt: skip
    for state, name, color, symbol in (
        ("pruned", "stopped", "var(--stopped)", "x-thin-open"), ("failed", "failed", "var(--failed)", "x-open")
    ):  # fmt: skip
        ends = [trial for trial in trials if trial.state == state]
        if ends:
            traces.append({
                "type": "scatter", "mode": "markers", "name": name, "x": [t.step for t in ends],
                "y": [t.evaluations[-1].score for t in ends], "hovertemplate": HOVER,
                "marker": {"color": color, "symbol": symbol, "size": 8, "line": {"width": 2, "color": color}},
                "text": [f"trial {t.number} {name}<br>{safe(t.reason or '')}" for t in ends],
            })  # fmt: skip
    on_front = {
        "type": "scatter", "mode": "markers", "name": "on the front", "x": [p.step for p in snapshot.points],
        "y": [p.score for p in snapshot.points], "text": [hover(p) for p in snapshot.points], "hovertemplate": HOVER,
        "marker": {"color": "var(--ink)", "size": 7},
    }  # fmt: skip
    figure: Figure = {"data": [*traces, on_front], "layout": layout("optimizer step", "score")}
    figure["layout"]["xaxis"]["rangemode"] = "tozero"
    return figure


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


def marks(points: Sequence[Point], name: str, marker: Figure, **values: Any) -> Figure:
    """Points as markers; `values`: other fields of the trace."""
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": marker, "hovertemplate": HOVER,
        "x": [_drawn(p.adapter_params) for p in points], "y": [p.score for p in points],
        "text": [hover(p) for p in points],
    } | values  # fmt: skip


def hover(point: Point) -> str:
    """What is said of a point: where it is, and with which settings it came about."""
    lines = [f"{safe(point.method)}, trial {point.trial}, step {point.step}"]
    lines.append(f"<b>{count(point.adapter_params)} parameters, score {point.score:.4f}</b>")
    return "<br>".join([*lines, *(safe(settings({name: value})) for name, value in point.config.items())])


def _drawn(params: float) -> float:
    """No parameters at all is drawn as one: a logarithmic axis has no zero."""
    return max(params, 1)
