"""The front and its hypervolume as figures: plain `Figure` objects, no pyplot and no global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autorank.results.front import Point, candidates, progress
from autorank.results.records import TrialRecord
from autorank.results.report import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE, KNEE = "#1f2430", "#8a919e", "#1f6feb", "#d9480f"


def front_figure(
    trials: Sequence[TrialRecord], points: Sequence[Point], title: str, reference: tuple[float, float]
) -> Figure:
    """All evaluations in grey, the front as a stair over logarithmic parameters, its knee named."""
    figure, axes = _axes(title)
    everything = candidates(trials)
    axes.scatter(
        [_log_safe(p.adapter_params) for p in everything],
        [p.score for p in everything],
        s=16,
        color=QUIET,
        alpha=0.35,
        linewidths=0,
        label="evaluations",
    )
    axes.set_xscale("log")
    if points:
        params = [_log_safe(p.adapter_params) for p in points]
        scores = [p.score for p in points]
        right = max([_log_safe(reference[0]), *(_log_safe(p.adapter_params) for p in everything)])
        axes.step([*params, right], [*scores, scores[-1]], where="post", color=LINE, linewidth=1.6)
        axes.scatter(params, scores, s=34, color=LINE, zorder=3, label=f"front ({len(points)})")
        _mark_knee(axes, points)
    _params_axis(axes, [p.adapter_params for p in everything])
    axes.set_ylabel("score")
    if everything:
        axes.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=9)
    return figure


def hypervolume_figure(trials: Sequence[TrialRecord], reference: tuple[float, float]) -> Figure:
    """The front's hypervolume after each finished trial."""
    from matplotlib.ticker import MaxNLocator

    params, score = reference
    figure, axes = _axes(f"Hypervolume in the box of {count(params)} parameters, score {score:.2f} to 1")
    history = [after.hypervolume for after in progress(trials, reference)]
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
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(which="both", colors=QUIET, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.1)
    return figure, axes


def _mark_knee(axes: Axes, points: Sequence[Point]) -> None:
    """A ring and a label: above the front, where nothing is, or below it at the left edge."""
    for point in points:
        if point.knee:
            where = (_log_safe(point.adapter_params), point.score)
            left = axes.transAxes.inverted().transform(axes.transData.transform(where))[0] < 0.3
            axes.scatter(*where, s=90, facecolors="none", edgecolors=KNEE, linewidths=1.8, zorder=4)
            label = f"knee: {count(point.adapter_params)}, {point.score:.3f}"
            _note(axes, label, where, (10, -16) if left else (-8, 8), KNEE)


def _note(axes: Axes, text: str, where: tuple[float, float], shift: tuple[int, int], color: str) -> None:
    """Text beside a point, `shift` in typographic points; it extends away from the point."""
    axes.annotate(
        text,
        where,
        shift,
        textcoords="offset points",
        ha="left" if shift[0] > 0 else "right",
        color=color,
        fontsize=9,
        zorder=5,
    )


def _params_axis(axes: Axes, values: Sequence[int]) -> None:
    """Ticks at 1, 2, 5 times powers of ten where few decades are shown, at powers of ten where many are."""
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


def _log_safe(params: float) -> float:
    """No parameters at all is drawn as one: a logarithmic axis has no zero."""
    return max(params, 1)
