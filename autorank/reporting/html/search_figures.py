"""The figures of a search for Plotly: its fronts, their growth, its learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

from autorank.reporting.html.document import Figure
from autorank.reporting.html.figures import HOVER, band, hover_text, layout, point_markers, set_params_axis, stair
from autorank.reporting.html.trace_styles import TraceStyle, escape_tags, method_styles
from autorank.reporting.plots import log_params
from autorank.trials.front import candidates, size_curves
from autorank.trials.history import History
from autorank.trials.point import Point
from autorank.trials.record import State, TrialRecord, ended_trials
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import summarize
from autorank.trials.statistics.front_statistics import front_statistics

MAX_EVALUATIONS = 5_000  # gray points; more would make pages that browsers cannot draw
UNITS = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def front(snapshot: Snapshot) -> Figure:
    """Evaluations and slices, both fronts, scores with new seeds, the knee; the last trace is the selected point.

    A line joins the sizes of an evaluation that has a point on a front.

    Args:
        snapshot: The trials and the fronts.

    Returns:
        The figure; its x axis is logarithmic.
    """
    evaluations, markers = candidates(snapshot.trials), partial(point_markers, third_objective=snapshot.third_objective)
    right = max([log_params(snapshot.reference[0]), *(log_params(p.adapter_params) for p in evaluations)])
    curves = size_curves(evaluations, [*snapshot.points, *snapshot.baseline])
    name = "evaluations and slices" if any(p.component_masks is not None for p in evaluations) else "evaluations"
    shown = evaluations[:: math.ceil(len(evaluations) / MAX_EVALUATIONS) or 1]
    if len(shown) < len(evaluations):
        name += f" ({len(shown):,} of {len(evaluations):,})"
    traces = [markers(shown, name, {"color": "var(--quiet)", "size": 6, "opacity": 0.4})]
    traces += _size_lines(curves)
    if snapshot.baseline:
        traces.append(stair(snapshot.baseline, right, "var(--baseline)", "front of plain LoRA", dashed=True))
        traces.append(markers(snapshot.baseline, "", {"color": "var(--baseline)", "size": 7}, showlegend=False))
    if snapshot.points:
        traces += band(snapshot.points, front_statistics(snapshot).certainties, right, "var(--line)")
        traces.append(stair(snapshot.points, right, "var(--line)", "front"))
        styles = method_styles(snapshot)
        for style in dict.fromkeys(styles.values()):
            if points := [p for p in snapshot.points if styles[p.method] == style]:
                marker = {"color": style.color, "symbol": style.symbol, "size": 10}
                traces.append(markers(points, style.name, marker, showlegend=len(styles) > 1))
    traces += _confirmed(snapshot.baseline, snapshot, "var(--baseline)", "new seeds: mean ± sd (plain LoRA)")
    traces += _confirmed(snapshot.points, snapshot, "var(--ink)", "new seeds: mean ± sd")
    knee = [p for p in snapshot.points if p.knee]
    for name, size, color in (("knee", 17, "var(--knee)"), ("selected below", 25, "var(--chosen)")):
        ring = {"symbol": "circle-open", "size": size, "color": color, "line": {"width": 2}}
        traces.append(markers(knee, name, ring, hoverinfo="skip", hovertemplate=None))
    return set_params_axis({"data": traces, "layout": layout("adapter parameters", "score", 480)})


def _size_lines(curves: Sequence[Sequence[Point]]) -> list[Figure]:
    """One trace with a line through the sizes of each evaluation, separated by None; no trace without curves."""
    if not curves:
        return []
    return [{
        "type": "scatter", "mode": "lines", "name": "sizes of one training", "hoverinfo": "skip",
        "x": [x for curve in curves for x in (*(log_params(p.adapter_params) for p in curve), None)],
        "y": [y for curve in curves for y in (*(p.score for p in curve), None)],
        "line": {"color": "var(--quiet)", "width": 1},
    }]  # fmt: skip


def _confirmed(points: Sequence[Point], snapshot: Snapshot, color: str, name: str) -> list[Figure]:
    """A trace with the mean scores and standard deviations of points that were trained again; none if none were."""
    confirmed = summarize(points, snapshot)
    if not confirmed:
        return []
    stats = [(p, confirmed[p.key]) for p in points if p.key in confirmed]
    means = [replace(p, score=c.mean) for p, c in stats]
    trace = point_markers(means, name, {"color": color, "size": 8, "symbol": "diamond"}, snapshot.third_objective)
    return [
        trace
        | {"text": [f"trial {p.trial}: {c}, {c.seeds} seeds" for p, c in stats]}
        | {"error_y": {"array": [c.sd or 0.0 for _, c in stats], "color": color, "thickness": 1.5}}
    ]


def growth(snapshot: Snapshot) -> dict[str, Figure]:
    """Hypervolume after each finished trial, over time and over training steps; each front counts its own steps.

    Args:
        snapshot: The trials.

    Returns:
        `growth-time` and `growth-steps` -> figure; empty if no trial has finished.
    """
    ended = sorted(ended_trials(snapshot.trials), key=lambda t: (t.ended, t.number))
    if not ended:
        return {}
    started = min(trial.started for trial in snapshot.trials)
    duration = max(0.0, ended[-1].ended - started)  # the clock may have been set back
    unit, name = next((size, name) for least, size, name in UNITS if duration >= least)
    times, steps = [], []
    for baseline, label, color in ((False, "front", "var(--line)"), (True, "front of plain LoRA", "var(--baseline)")):
        trials = [trial for trial in ended if trial.baseline == baseline]
        if not trials:
            continue
        history = History(snapshot.reference, snapshot.objectives).update(
            [replace(trial, baseline=False) for trial in trials]
        )
        trace = {
            "type": "scatter", "mode": "lines", "name": label, "y": [step.hypervolume for step in history],
            "line": {"shape": "hv", "color": color, "width": 2, "dash": "dash" if baseline else "solid"},
            "text": [f"after trial {trial.number}" for trial in trials],
            "hovertemplate": "%{text}: %{y:.4f}<extra></extra>",
        }  # fmt: skip
        times.append(trace | {"x": [(step.at - started) / unit for step in history]})
        steps.append(trace | {"x": list(accumulate(trial.step for trial in trials))})
    axes = {"time": (times, f"{name} since the first trial started"), "steps": (steps, "training steps of all trials")}
    figures: dict[str, Figure] = {
        f"growth-{key}": {"data": traces, "layout": layout(x, "hypervolume", 340)} for key, (traces, x) in axes.items()
    }
    for figure in figures.values():
        figure["layout"]["xaxis"]["rangemode"] = "tozero"
    return figures


def curves(snapshot: Snapshot) -> Figure | None:
    """Score by step, one line per trial; the ends of stopped and failed trials and the front's points are marked.

    Args:
        snapshot: The trials and the front.

    Returns:
        The figure; None if no trial has been evaluated.
    """
    trials = [trial for trial in snapshot.trials if trial.evaluations]
    if not trials:
        return None
    styles = method_styles(snapshot)
    traces = []
    for style in dict.fromkeys(styles.values()):
        traces += _curve([t for t in trials if not t.baseline and styles[t.method] == style], style)
    baseline = [t for t in trials if t.baseline]
    if baseline:  # last, on top
        name = f"{escape_tags(baseline[0].method)} (baseline)"
        traces += _curve(baseline, TraceStyle(name, "var(--baseline)", "circle"), dashed=True)
    traces += _ends(trials, "pruned", "stopped", "var(--stopped)", "x-thin-open")
    traces += _ends(trials, "failed", "failed", "var(--failed)", "x-open")
    groups: dict[tuple[int, int], list[Point]] = {}
    for point in snapshot.points:
        groups.setdefault((point.trial, point.step), []).append(point)
    scores = {(trial.number, e.step): e.score for trial in trials for e in trial.evaluations}
    on_front = {
        "type": "scatter", "mode": "markers", "name": "on the front", "x": [step for _, step in groups],
        "y": [scores[key] for key in groups], "hovertemplate": HOVER,
        "text": [hover_text(*points, third_objective=snapshot.third_objective) for points in groups.values()],
        "marker": {"color": "var(--ink)", "symbol": "circle-open", "size": 11, "line": {"width": 1.5}},
    }  # fmt: skip
    figure: Figure = {"data": [*traces, on_front], "layout": layout("optimizer step", "score")}
    figure["layout"]["xaxis"]["rangemode"] = "tozero"
    return figure


def _curve(trials: Sequence[TrialRecord], style: TraceStyle, dashed: bool = False) -> list[Figure]:
    """One trace with the learning curves of trials, separated by None; no trace without trials."""
    if not trials:
        return []
    x = [value for t in trials for value in (*(e.step for e in t.evaluations), None)]
    y = [value for t in trials for value in (*(e.score for e in t.evaluations), None)]
    text = [
        value
        for t in trials
        for value in (*(f"{escape_tags(t.method)}, trial {t.number}" for _ in t.evaluations), None)
    ]
    return [{
        "type": "scatter", "mode": "lines+markers", "name": style.name, "x": x, "y": y, "text": text, "opacity": 0.7,
        "line": {"color": style.color, "width": 1.3, "dash": "dash" if dashed else "solid"},
        "marker": {"color": style.color, "symbol": style.symbol, "size": 5},
        "hovertemplate": "%{text}, step %{x}: %{y:.4f}<extra></extra>",
    }]  # fmt: skip


def _ends(trials: Sequence[TrialRecord], state: State, name: str, color: str, symbol: str) -> list[Figure]:
    """A trace with the last evaluations of the trials in a state; no trace without such trials."""
    ended = [trial for trial in trials if trial.state == state]
    if not ended:
        return []
    return [{
        "type": "scatter", "mode": "markers", "name": name, "x": [t.step for t in ended],
        "y": [t.evaluations[-1].score for t in ended], "hovertemplate": HOVER,
        "marker": {"color": color, "symbol": symbol, "size": 8, "line": {"width": 2, "color": color}},
        "text": [f"trial {t.number} {name}<br>{escape_tags(t.reason or '')}" for t in ended],
    }]  # fmt: skip
