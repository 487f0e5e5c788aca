"""A search's report as one HTML file that works offline, and its figures for papers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank import atomic_io
from autorank.defaults import RUNS
from autorank.errors import AutorankError
from autorank.reporting.certainty_texts import front_notes, interval_text, percent
from autorank.reporting.html import search_figures, sections
from autorank.reporting.html.document import Figure, render_page
from autorank.reporting.html.figures import third_objective_text
from autorank.reporting.tables import count, setting
from autorank.spec import SearchSpec
from autorank.trials.history import History
from autorank.trials.point import Point, ranks_at
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import best_gain
from autorank.trials.statistics.front_statistics import front_statistics

if TYPE_CHECKING:
    from matplotlib import figure as matplotlib_figure

DPI = 300  # resolution of PNG files
RESAMPLED = "of resamples"


def render_report(snapshot: Snapshot, spec: SearchSpec, runs: Path | None = None) -> str:
    """Render the report of a search. Equal journals give equal pages.

    Args:
        snapshot: The trials and the fronts.
        spec: The search.
        runs: The directory of runs, for the commands in the page; None: the default.

    Returns:
        The HTML file's text.
    """
    ranks, settings = sections.rank_menu(snapshot), sections.settings_menu(snapshot, spec)
    figures: dict[str, Figure] = search_figures.growth(snapshot)
    if any(trial.evaluations for trial in snapshot.trials):
        figures["front"] = search_figures.front(snapshot)
    if (curves := search_figures.curves(snapshot)) is not None:
        figures["curves"] = curves
    methods = ", ".join(entry.method for entry in spec.methods)
    return render_page(
        "report",
        spec.title,
        figures | ranks.figures | settings.figures,
        _points(snapshot, spec, runs),
        spec=spec,
        snapshot=snapshot,
        about=f"{methods} on {spec.task.name}" + (f", {spec.model}" if spec.model else ""),
        summary=sections.summary(snapshot),
        front_table=sections.front_table(snapshot),
        front_notes=front_notes(snapshot) if snapshot.points else [],
        box_params=count(snapshot.reference[0]),
        box_score=snapshot.reference[1],
        rank_options=ranks.options,
        without_ranks=sections.methods_without_ranks(snapshot.points, ranks),
        setting_options=settings.options,
        trials_table=sections.trials_table(snapshot),
        has_slices=any(evaluation.slices for trial in snapshot.trials for evaluation in trial.evaluations),
    )


def write_figures(snapshot: Snapshot, spec: SearchSpec, folder: Path) -> list[Path]:
    """Write the front, its hypervolume and the ranks at its knee. Equal journals give equal files.

    Args:
        snapshot: The trials and the fronts.
        spec: The search.
        folder: The directory to write to.

    Returns:
        The PNG and SVG files.
    """
    from autorank.reporting.plots import front_figure, hypervolume_figure
    from autorank.reporting.rank_plots import rank_map_figure

    steps = History(snapshot.reference, snapshot.objectives).update(snapshot.trials)
    figures = {
        "front": front_figure(snapshot, spec.title),
        "hypervolume": hypervolume_figure(steps, snapshot.reference),
    }
    for point in snapshot.points:
        if point.knee and (ranks := ranks_at(point, snapshot.trials)):
            figures["ranks"] = rank_map_figure(ranks, f"{spec.name}: {point.label}")
    files = []
    for name, figure in figures.items():
        for file in (folder / f"{name}.png", folder / f"{name}.svg"):
            save_figure(figure, file)
            files.append(file)
    return files


def save_figure(figure: matplotlib_figure.Figure, to: Path) -> None:
    """Write a Matplotlib figure. Equal figures give equal files.

    Args:
        figure: The figure.
        to: A PNG or SVG file; missing directories are created.
    """
    import matplotlib as mpl

    to.absolute().parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "autorank"}):
        figure.savefig(to, dpi=DPI, metadata={"Date": None} if to.suffix == ".svg" else None)


def write_page(text: str, to: Path) -> None:
    """Write a page.

    Args:
        text: HTML.
        to: The file; missing directories are created.

    Raises:
        AutorankError: The file cannot be written.
    """
    try:
        with atomic_io.writing(to) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AutorankError(f"Cannot write {to}: {error.strerror}. Choose another --to.") from error


def export_command(name: str, point: Point, runs: Path | None, third_objective: str | None = None) -> str:
    """The command that exports a point of the front.

    Args:
        name: The search.
        point: The point.
        runs: The directory of runs; None: the default.
        third_objective: The search's third objective; without one, the point is the best with at most as many
            parameters.

    Returns:
        A shell command, quoted where needed.
    """
    which = ["--max-params", str(max(point.adapter_params, 1))]
    if third_objective is not None:
        which = ["--trial", str(point.trial), "--step", str(point.step), *which]
    words = ["autorank", "export", name, *which, "--to", f"{name}-adapter"]
    other_runs = runs is not None and runs.resolve() != RUNS.resolve()
    return shlex.join([*words, *(["--runs", str(runs)] if other_runs else [])])


def _points(snapshot: Snapshot, spec: SearchSpec, runs: Path | None) -> list[dict[str, Any]]:
    """The points of the slider, in ascending order of parameters, and what the page shows of each."""
    statistics = front_statistics(snapshot)
    rows = []
    for point in snapshot.points:
        facts = {"Parameters": f"{point.adapter_params:,}", "Score": f"{point.score:.4f}"}
        if snapshot.third_objective:
            name, text = third_objective_text(snapshot.third_objective, point)
            facts[name.capitalize()] = text
        stats, certainty = statistics.confirmed.get(point.key), statistics.known.get(point.key)
        basis = RESAMPLED if stats is None else f"over {stats.varied}"
        if new_seeds := statistics.new_seeds(point.key):
            facts["New seeds"] = new_seeds
        if text := interval_text(certainty):
            facts["90% interval"] = text
        if certainty is not None and certainty.on_front is not None:
            facts["On the front"] = f"{percent(certainty.on_front)} {basis}"
        if snapshot.baseline:
            gain = best_gain(point, snapshot, stats)
            facts["Gain over plain LoRA"] = "no plain LoRA is as small" if gain is None else f"{gain:+.4f}"
            if (better := statistics.gain_probabilities.get(point.key)) is not None:
                of_seeds = stats is not None and stats.gain_over_baseline is not None
                facts["Better than plain LoRA"] = f"{percent(better)} {basis if of_seeds else RESAMPLED}"
        if point.cut_from is not None:
            facts["Cut from"] = f"{point.cut_from:,} parameters"
        facts |= {"Method": point.method, "Trial": f"{point.trial}, step {point.step}"}
        rows.append({
            "trial": point.trial, "step": point.step, "params": point.adapter_params, "score": point.score,
            "knee": point.knee, "facts": facts,
            "command": export_command(spec.name, point, runs, snapshot.third_objective),
            "settings": {name: setting(value) for name, value in point.settings.items()},
        })  # fmt: skip
    return rows
