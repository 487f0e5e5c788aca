"""The pictures of a search as Plotly figures: its fronts, how they grew, learning curves.

Figures are plain values, so that making them needs no Plotly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

from autorank.reporting.html.document import Figure
from autorank.reporting.html.trace_styles import Look, looks, safe
from autorank.reporting.plots import drawn_at
from autorank.reporting.tables import THIRD, count, settings
from autorank.spec import ObjectivesSpec
from autorank.trials.confirmation_stats import summarise
from autorank.trials.front import History, Point, candidates
from autorank.trials.snapshot import Snapshot

UNITS = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
HOVER = "%{text}<extra></extra>"


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
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--quiet)", "activecolor": "var(--ink)"},
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
    x, highest = [drawn_at(p.adapter_params) for p in points], list(accumulate((p.score for p in points), max))
    return {
        "type": "scatter", "mode": "lines", "x": [*x, max(right, x[-1])], "y": [*highest, highest[-1]], "name": name,
        "line": {"shape": "hv", "color": color, "width": 2, "dash": "dash" if dashed else "solid"}, "hoverinfo": "skip",
    }  # fmt: skip


def front(snapshot: Snapshot, reference: tuple[float, float]) -> Figure:
    """All evaluations, both fronts, what confirmed them, the knee; and the point that the slider picks (the last)."""
    everything, marks = candidates(snapshot.trials), partial(points_of, third=snapshot.third)
    right = max([drawn_at(reference[0]), *(drawn_at(p.adapter_params) for p in everything)])
    traces = [marks(everything, "evaluations", {"color": "var(--quiet)", "size": 6, "opacity": 0.4})]
    if snapshot.control:
        traces.append(stair(snapshot.control, right, "var(--control)", "plain LoRA's front", dashed=True))
        traces.append(marks(snapshot.control, "", {"color": "var(--control)", "size": 7}, showlegend=False))
    if snapshot.points:
        traces.append(stair(snapshot.points, right, "var(--line)", "front"))
        drawn = looks(snapshot)
        for look in dict.fromkeys(drawn.values()):
            if own := [p for p in snapshot.points if drawn[p.method] == look]:
                marker = {"color": look.color, "symbol": look.symbol, "size": 10}
                traces.append(marks(own, look.name, marker, showlegend=len(drawn) > 1))
    for points, color in ((snapshot.control, "var(--control)"), (snapshot.points, "var(--ink)")):
        if confirmed := summarise(points, snapshot):
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
    drawn = looks(snapshot)
    for look in (*dict.fromkeys(drawn.values()), None):  # the control's last, on top
        own = [t for t in trials if (None if t.control else drawn[t.method]) == look]
        if not own:
            continue
        x = [e for t in own for e in (*(e.step for e in t.evaluations), None)]
        y = [e for t in own for e in (*(e.score for e in t.evaluations), None)]
        text = [e for t in own for e in (*(f"{safe(t.method)}, trial {t.number}" for _ in t.evaluations), None)]
        look = look or Look(f"{safe(own[0].method)} (control)", "var(--control)", "circle")
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": look.name, "x": x, "y": y, "text": text, "opacity": 0.7,
            "line": {"color": look.color, "width": 1.3, "dash": "dash" if own[0].control else "solid"},
            "marker": {"color": look.color, "symbol": look.symbol, "size": 5},
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
        "y": [p.score for p in snapshot.points], "text": [hover(p, snapshot.third) for p in snapshot.points],
        "hovertemplate": HOVER,
        "marker": {"color": "var(--ink)", "symbol": "circle-open", "size": 11, "line": {"width": 1.5}},
    }  # fmt: skip
    figure: Figure = {"data": [*traces, on_front], "layout": layout("optimizer step", "score")}
    figure["layout"]["xaxis"]["rangemode"] = "tozero"
    return figure


def points_of(points: Sequence[Point], name: str, marker: Figure, third: str | None = None, **values: Any) -> Figure:
    """Points as markers; `third`: the third objective; `values`: other fields of the trace."""
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": marker, "hovertemplate": HOVER,
        "x": [drawn_at(p.adapter_params) for p in points], "y": [p.score for p in points],
        "text": [hover(p, third) for p in points],
    } | values  # fmt: skip


def hover(point: Point, third: str | None = None) -> str:
    """What is said of a point: where it is, and with which settings it came about."""
    lines = [f"{safe(point.method)}, trial {point.trial}, step {point.step}"]
    lines.append(f"<b>{count(point.adapter_params)} parameters, score {point.score:.4f}</b>")
    if third is not None:
        lines.append(" ".join(third_text(third, point)))
    return "<br>".join([*lines, *(safe(settings({name: value})) for name, value in point.config.items())])


def third_text(third: str, point: Point) -> tuple[str, str]:
    """The name of a search's third objective, and what a point has of it."""
    name, text = THIRD[third]
    return name, text(point)
