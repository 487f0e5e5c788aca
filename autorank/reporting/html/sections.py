"""The contents of a search's report: tables, menus and the figures that they switch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from autorank.reporting.certainty_texts import interval_text, percent
from autorank.reporting.html.document import Cell, Column, Figure, HtmlTable
from autorank.reporting.html.figures import third_objective_text
from autorank.reporting.html.rank_maps import option, rank_maps
from autorank.reporting.html.setting_figures import (
    importance_figure,
    parallel_coordinates,
    setting_importances,
    shared_parallel_coordinates,
)  # fmt: skip
from autorank.reporting.tables import THIRD_OBJECTIVE_COLUMNS, count, duration, origins, settings
from autorank.spec import SearchSpec
from autorank.training.evaluation import best
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import best_gain
from autorank.trials.statistics.front_statistics import front_statistics

STATES = {"complete": "complete", "pruned": "stopped", "failed": "failed", "running": "unfinished"}


class Menu(NamedTuple):
    """A menu and the figures that it switches.

    Attributes:
        options: Value -> text; the first option is shown at the start.
        figures: Name -> figure; names end with the options' values.
    """

    options: dict[str, str]
    figures: dict[str, Figure]


def summary(snapshot: Snapshot) -> dict[str, str]:
    """The key figures of a search.

    Args:
        snapshot: The trials and the fronts.

    Returns:
        Name -> value, as texts.
    """
    states = Counter(STATES[trial.state] for trial in snapshot.trials)
    facts = {"trials": str(len(snapshot.trials))}
    facts |= {name: str(states[name]) for name in ("stopped", "failed", "unfinished") if states[name]}
    if snapshot.points:
        knee = next(point for point in snapshot.points if point.knee)
        facts["front"] = origins(snapshot.points)
        facts["best score"] = f"{max(p.score for p in snapshot.points):.4f}"
        facts["knee"] = f"{knee.score:.4f} with {count(knee.adapter_params)} parameters"
        facts["hypervolume"] = f"{snapshot.hypervolume:.4f}"
    if snapshot.baseline:
        facts["hypervolume of plain LoRA"] = f"{snapshot.baseline_hypervolume:.4f}"
    return facts


def front_table(snapshot: Snapshot) -> HtmlTable:
    """The points of the front, with their scores with new seeds and their gains if there are any."""
    statistics = front_statistics(snapshot)
    confirmed, known = statistics.confirmed, statistics.known
    better = statistics.gain_probabilities
    columns: dict[Column, Callable[[Point], Cell]] = {
        Column("parameters", number=True): lambda p: Cell(f"{p.adapter_params:,}", p.adapter_params)
    }
    if any(point.cut_from is not None for point in snapshot.points):
        columns[Column("cut from", number=True)] = lambda p: _cell(p.cut_from, ",")
    columns[Column("score", number=True)] = lambda p: Cell(f"{p.score:.4f}", p.score)
    if confirmed or statistics.failed:
        columns[Column("confirmed", number=True)] = lambda p: Cell(
            statistics.new_seeds(p.key), confirmed[p.key].mean if p.key in confirmed else ""
        )
    if known:
        columns[Column("90%")] = lambda p: Cell(interval_text(known.get(p.key)))
        columns[Column("on front", number=True)] = lambda p: _percent(known[p.key].on_front if p.key in known else None)
    if (third := snapshot.third_objective) is not None:
        columns[Column(THIRD_OBJECTIVE_COLUMNS[third][0], number=True)] = lambda p: Cell(
            third_objective_text(third, p)[1], float(getattr(p, third))
        )
    if snapshot.baseline:
        columns[Column("gain", number=True)] = lambda p: _cell(best_gain(p, snapshot, confirmed.get(p.key)), "+.4f")
    if better:
        columns[Column("better", number=True)] = lambda p: _percent(better.get(p.key))
    columns |= {
        Column("trial", number=True): lambda p: Cell(str(p.trial)),
        Column("step", number=True): lambda p: Cell(str(p.step)),
        Column("method"): lambda p: Cell(p.method),
        Column(""): lambda p: Cell("knee" if p.knee else ""),
        Column("settings"): lambda p: Cell(settings(p.settings)),
    }
    return HtmlTable(list(columns), [[cell(p) for cell in columns.values()] for p in snapshot.points])


def _cell(number: float | None, form: str) -> Cell:
    return Cell("", "") if number is None else Cell(format(number, form), number)


def _percent(probability: float | None) -> Cell:
    return Cell(percent(probability), "" if probability is None else probability)


def trials_table(snapshot: Snapshot) -> HtmlTable:
    """All trials with their best evaluations, and the reasons of those that failed or were stopped."""
    columns = [
        Column("trial", number=True), Column("method"), Column("state"), Column("parameters", number=True),
        Column("score", number=True), Column("slices", number=True), Column("steps", number=True),
        Column("time", number=True), Column("settings"), Column("reason"),
    ]  # fmt: skip
    rows = []
    for trial in snapshot.trials:
        top = best(trial.evaluations)
        rows.append([
            Cell(str(trial.number)), Cell(trial.method + (" (baseline)" if trial.baseline else "")),
            Cell(STATES[trial.state]), Cell(f"{top.adapter_params:,}", top.adapter_params) if top else Cell("", ""),
            Cell(f"{top.score:.4f}", top.score) if top else Cell("", ""),
            Cell(str(sum(len(evaluation.slices) for evaluation in trial.evaluations))), Cell(str(trial.step)),
            Cell(duration(trial.seconds), trial.seconds), Cell(settings(trial.settings)), Cell(trial.reason or ""),
        ])  # fmt: skip
    return HtmlTable(columns, rows)


def rank_menu(snapshot: Snapshot) -> Menu:
    """The rank maps of the points of both fronts, the knee first; figures are named `ranks-TRIAL-STEP-PARAMETERS`."""
    maps = rank_maps([*snapshot.points, *snapshot.baseline], snapshot.trials)
    knee = next((option(p) for p in snapshot.points if p.knee), "")
    keys = sorted(maps, key=lambda key: key != knee)
    return Menu({key: maps[key][0] for key in keys}, {f"ranks-{key}": maps[key][1] for key in keys})


def methods_without_ranks(points: Sequence[Point], menu: Menu) -> list[str]:
    """The methods with points that have no rank map.

    Args:
        points: The points of the front.
        menu: The result of `rank_menu`.

    Returns:
        Names of methods, sorted.
    """
    return sorted({p.method for p in points if option(p) not in menu.options})


def settings_menu(snapshot: Snapshot, spec: SearchSpec) -> Menu:
    """Parallel coordinates and importances, of all methods together and of each method.

    Args:
        snapshot: The trials.
        spec: The search.

    Returns:
        Figures `parallel-OPTION` and `importance-OPTION`; a figure may be replaced by `{"note": text}`.
    """
    options, figures = {}, {}
    several = len({trial.method for trial in snapshot.trials if trial.evaluations}) > 1
    if several and (lines := shared_parallel_coordinates(spec.entries, snapshot.trials)) is not None:
        options["all"] = "all methods"
        figures["parallel-all"] = lines
        figures["importance-all"] = {"note": "Importance is computed for one method at a time. Select a method."}
    for index, entry in enumerate(spec.entries):
        trials = [trial for trial in snapshot.trials if trial.method == entry.method]
        if (lines := parallel_coordinates(entry, trials)) is None:
            continue
        options[str(index)] = entry.method + (" (baseline)" if entry is spec.baseline else "")
        figures[f"parallel-{index}"] = lines
        importances = setting_importances(entry, trials)
        if isinstance(importances, str):
            figures[f"importance-{index}"] = {"note": f"Importance is not available. {importances}"}
        else:
            figures[f"importance-{index}"] = importance_figure(importances)
    return Menu(options, figures)
