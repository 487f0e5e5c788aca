"""Fronts and their hypervolume as Matplotlib figures, made without pyplot and its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from autorank.errors import AutorankError
from autorank.reporting.tables import count
from autorank.trials.front import candidates, size_curves
from autorank.trials.history import HypervolumeStep
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.front_statistics import front_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE, KNEE, BASELINE = "#1f2430", "#8a919e", "#1f6feb", "#d9480f", "#6b7280"
HUES = (LINE, "#b45309", "#0f8a5f", "#a21caf", "#be123c", "#0e7490", "#4d7c0f", "#5b21b6")  # one for each front


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def front_figure(snapshot: Snapshot, title: str, chosen: Point | None = None) -> Figure:
    """All evaluations and slices in gray, the front as a step function over logarithmic parameters.

    Plain LoRA's front is dashed. A thin line joins the sizes of an evaluation that has a point on a front.

    Args:
        snapshot: The trials and the fronts.
        title: The figure's title.
        chosen: A point to circle instead of the knee.

    Returns:
        The figure.
    """
    figure, axes = _axes(title)
    evaluations, points = candidates(snapshot.trials), snapshot.points
    axes.scatter(
        [log_params(p.adapter_params) for p in evaluations],
        [p.score for p in evaluations],
        s=16,
        color=QUIET,
        alpha=0.35,
        linewidths=0,
        label="evaluations and slices" if any(p.component_masks is not None for p in evaluations) else "evaluations",
    )
    for curve in size_curves(evaluations, [*points, *snapshot.baseline]):
        axes.plot(
            [log_params(p.adapter_params) for p in curve],
            [p.score for p in curve],
            color=QUIET,
            alpha=0.6,
            linewidth=0.7,
        )
    axes.set_xscale("log")
    right = max([log_params(snapshot.reference[0]), *(log_params(p.adapter_params) for p in evaluations)])
    if snapshot.baseline:
        _stair(axes, snapshot.baseline, right, BASELINE, f"plain LoRA ({len(snapshot.baseline)})", dashed=True)
    if points:
        _stair(axes, points, right, LINE, f"front ({len(points)})")
        _band(axes, snapshot, right)
    if chosen is not None:
        _ring(axes, chosen, "exported")
    elif knee := next((point for point in points if point.knee), None):
        _ring(axes, knee, "knee")
    _params_axis(axes, [p.adapter_params for p in evaluations])
    axes.set_ylabel("score")
    if evaluations:
        _legend(axes)
    return figure


def fronts_figure(fronts: Mapping[str, Sequence[Point]]) -> Figure:
    """The fronts of several searches as step functions.

    Args:
        fronts: Name -> front, not empty.

    Returns:
        The figure.

    Raises:
        AutorankError: There are more fronts than colors.
    """
    if len(fronts) > len(HUES):
        raise AutorankError(
            f"At most {len(HUES)} fronts can be drawn in one figure, got {len(fronts)}. Name fewer searches."
        )
    figure, axes = _axes("Fronts")
    axes.set_xscale("log")
    right = max(log_params(p.adapter_params) for points in fronts.values() for p in points)
    for color, (name, points) in zip(HUES, fronts.items(), strict=False):
        _stair(axes, points, right, color, name)
    _params_axis(axes, [p.adapter_params for points in fronts.values() for p in points])
    axes.set_ylabel("score")
    _legend(axes)
    return figure


def _stair(axes: Axes, points: Sequence[Point], right: float, color: str, label: str, dashed: bool = False) -> None:
    """A front as a step function: the best score with at most x parameters."""
    params, scores = [log_params(p.adapter_params) for p in points], [p.score for p in points]
    best_scores = list(accumulate(scores, max))  # with a third objective, a point may score less than a smaller one
    style = "--" if dashed else "-"
    axes.step(
        [*params, right], [*best_scores, best_scores[-1]], where="post", color=color, linewidth=1.6, linestyle=style
    )
    axes.scatter(params, scores, s=18 if dashed else 34, color=color, zorder=3, label=label)


def _band(axes: Axes, snapshot: Snapshot, right: float) -> None:
    """The 90% intervals of the front's scores."""
    certain = front_statistics(snapshot).certainties
    if known := [point for point in snapshot.points if point.key in certain]:
        params = [*(log_params(point.adapter_params) for point in known), right]
        ends = [[getattr(certain[point.key], end) for point in (*known, known[-1])] for end in ("low", "high")]
        low, high = (list(accumulate(scores, max)) for scores in ends)
        axes.fill_between(params, low, high, step="post", color=LINE, alpha=0.12, linewidth=0, label="90% interval")


def hypervolume_figure(steps: Sequence[HypervolumeStep], reference: tuple[float, float]) -> Figure:
    """The front's hypervolume after each finished trial.

    Args:
        steps: The hypervolume's history.
        reference: The reference point of the hypervolume, (adapter parameters, score).

    Returns:
        The figure.
    """
    from matplotlib.ticker import MaxNLocator

    params, score = reference
    figure, axes = _axes(f"Hypervolume (0 to {count(params)} parameters, score {score:.2f} to 1)")
    history = [step.hypervolume for step in steps]
    if history:
        counts = range(1, len(history) + 1)
        axes.step(counts, history, where="post", color=LINE, linewidth=1.6)
        axes.scatter(counts[-1:], history[-1:], s=34, color=LINE, zorder=3)
        _note(axes, f"{history[-1]:.3f}", (counts[-1], history[-1]), (-6, -14), LINE)
    axes.set_xlabel("trials finished")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("share dominated by the front")
    return figure


def _axes(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", pad=10, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(which="both", colors=QUIET, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.1)
    return figure, axes


def _legend(axes: Axes) -> None:
    """A legend whose texts are drawn as they are: a name may contain `$`, which begins a formula."""
    for text in axes.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=9).get_texts():
        text.set_parse_math(False)


def _ring(axes: Axes, point: Point, name: str) -> None:
    """A circle and a label: above the front, where there is space, or below it at the left edge."""
    position = (log_params(point.adapter_params), point.score)
    near_left_edge = axes.transAxes.inverted().transform(axes.transData.transform(position))[0] < 0.3
    axes.scatter(*position, s=90, facecolors="none", edgecolors=KNEE, linewidths=1.8, zorder=4)
    label = f"{name}: {count(point.adapter_params)}, {point.score:.3f}"
    _note(axes, label, position, (10, -16) if near_left_edge else (-8, 8), KNEE)


def _note(axes: Axes, text: str, position: tuple[float, float], shift: tuple[int, int], color: str) -> None:
    """A text beside a point, `shift` in typographic points; it extends away from the point."""
    axes.annotate(
        text,
        position,
        shift,
        textcoords="offset points",
        ha="left" if shift[0] > 0 else "right",
        color=color,
        fontsize=9,
        zorder=5,
    )


def _params_axis(axes: Axes, values: Sequence[int]) -> None:
    """Ticks at 1, 2, 5 times powers of ten if few decades are shown, else at powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    if values and min(values) == max(values):
        low, high = low / 2, high * 2
        axes.set_xlim(low, high)
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 4 else (1.0, 3.0) if decades > 2.5 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set_xlabel("adapter parameters")


def log_params(params: float) -> float:
    """Parameters on a logarithmic axis: zero is drawn as one."""
    return max(params, 1)
