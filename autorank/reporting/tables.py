"""Fronts, trials and ranks as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autorank.errors import counted
from autorank.modeling import rank_map
from autorank.reporting.certainty_texts import front_notes, interval_text, percent
from autorank.training.evaluation import best
from autorank.trials.point import Point
from autorank.trials.record import State, TrialRecord
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import best_gain
from autorank.trials.statistics.front_statistics import front_statistics

NOTHING = Snapshot([], [], [])
_STYLES: dict[State, str] = {"complete": "green", "running": "cyan", "pruned": "yellow", "failed": "red"}


THIRD_OBJECTIVE_COLUMNS: dict[str, tuple[str, Callable[[Point], str]]] = {  # objective -> column, cell
    "nonzero_params": ("non-zero", lambda p: count(p.nonzero_params)),
    "seconds": ("time", lambda p: duration(p.seconds)),
    "memory": ("memory", lambda p: f"{count(p.memory)}B"),
}


def count(number: float) -> str:
    """A number with three digits: 860, 9.22k, 147k, 1.18M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g}{name}"
    return str(round(number))


def duration(seconds: float) -> str:
    """A duration as a short text: 48s, 3m 20s, 2h 05m."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02d}s"
    return f"{total // 3600}h {total % 3600 // 60:02d}m"


def settings(values: Mapping[str, Any]) -> str:
    """Settings as a short text: `threshold 0.9, lr 0.0005`."""
    names = {"learning_rate": "lr"}
    return ", ".join(f"{names.get(key, key)} {setting(value)}" for key, value in values.items())


def plain_table(gap: int = 2) -> Table:
    """A table without borders and columns, whose header is dim; `gap` blanks follow each column."""
    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")


def front_table(
    points: Sequence[Point], snapshot: Snapshot = NOTHING, varied: Sequence[str] | None = None, wrap: bool = True
) -> Table:
    """The front as a table, one row per point.

    Args:
        points: The front.
        snapshot: The search; adds gains if it has a baseline, scores with new seeds, and how certain they are.
        varied: The settings to show; None: those that differ between points.
        wrap: Wrap long settings; else they are truncated.

    Returns:
        The table. It has no settings if a trial has several points; see `trial_settings`.
    """
    varied = _differing([point.settings for point in points]) if varied is None else varied
    statistics = front_statistics(snapshot)
    confirmed, certain, known = statistics.confirmed, statistics.certainties, statistics.known
    columns: dict[str, Callable[[Point], str]] = {
        "trial>": lambda p: str(p.trial),
        "step>": lambda p: str(p.step),
        "parameters>": lambda p: count(p.adapter_params),
    }
    if any(point.cut_from is not None for point in points):
        columns["cut\nfrom>"] = lambda p: "" if p.cut_from is None else count(p.cut_from)
    columns["score>"] = lambda p: f"{p.score:.4f}"
    if snapshot.third_objective is not None:
        column, cell = THIRD_OBJECTIVE_COLUMNS[snapshot.third_objective]
        columns[f"{column}>"] = cell
    if confirmed or statistics.failed:
        columns["confirmed>"] = lambda p: statistics.new_seeds(p.key)
    if certain and not confirmed:
        columns["90%>"] = lambda p: interval_text(certain.get(p.key))
    if known:
        columns["on\nfront>"] = lambda p: percent(known[p.key].on_front) if p.key in known else ""
    if snapshot.baseline:
        columns["gain>"] = lambda p: _gain(best_gain(p, snapshot, confirmed.get(p.key)))
    if better := statistics.gain_probabilities:
        columns["better>"] = lambda p: percent(better.get(p.key))
    columns[""] = lambda p: "knee" if p.knee else ""
    several = len({point.method for point in points}) > 1
    if several and not known:
        columns["method"] = lambda p: p.method
    if not _share_trials(points):
        in_settings = several and bool(known)  # 80 columns are too few for a column of methods
        columns["method, settings" if in_settings else "settings"] = lambda p: (
            (f"{p.method}, " if in_settings else "") + _varied_settings(p.settings, varied)
        )
    table = _table(*columns, gap=1 if known else 2)
    for point in points:
        *cells, last = (cell(point) for cell in columns.values())
        fitting = Text(last, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")
        table.add_row(*cells, fitting, style="bold" if point.knee else None)
    return table


def trial_settings(points: Sequence[Point], varied: Sequence[str] | None = None) -> Text:
    """The settings of each trial of a front, once, where a trial has several points; else nothing.

    Args:
        points: The front.
        varied: The settings to show; None: those that differ between points.

    Returns:
        A line for each trial.
    """
    if not _share_trials(points):
        return Text()
    varied = _differing([point.settings for point in points]) if varied is None else varied
    trials = {point.trial: f"{point.method}, {_varied_settings(point.settings, varied)}" for point in points}
    width = max(len(str(trial)) for trial in trials)
    return Text("\n" + "\n".join(f"trial {trial:>{width}}: {text}" for trial, text in sorted(trials.items())))


def _share_trials(points: Sequence[Point]) -> bool:
    return len({point.trial for point in points}) < len(points)


def _varied_settings(values: Mapping[str, Any], varied: Sequence[str]) -> str:
    return settings({key: values[key] for key in varied if key in values})


def trials_table(trials: Sequence[TrialRecord]) -> Table:
    """Every trial with its best evaluation, and the reasons of those that failed or were stopped."""
    varied = _differing([trial.settings for trial in trials])
    table = _table("trial>", "state", "parameters>", "score>", "time>", "settings")
    for trial in trials:
        top = best(trial.evaluations)
        settings_or_reason = Text(settings({key: trial.settings[key] for key in varied if key in trial.settings}))
        if trial.reason:
            settings_or_reason = Text(trial.reason, style=_STYLES[trial.state])
        table.add_row(
            str(trial.number),
            Text(trial.state, style=_STYLES[trial.state]),
            count(top.adapter_params) if top else "",
            f"{top.score:.4f}" if top else "",
            duration(trial.seconds) if trial.seconds else "",
            settings_or_reason,
        )
    return table


def front_summary(snapshot: Snapshot, varied: Sequence[str] | None = None) -> RenderableType:
    """The front as a table, its hypervolume and its gain over plain LoRA, and the trials that failed.

    Args:
        snapshot: The trials and the fronts.
        varied: The settings to show; None: those that differ between points.

    Returns:
        What Rich prints.
    """
    trials, points = snapshot.trials, snapshot.points
    searched = [trial for trial in trials if not trial.baseline]
    states = Counter("unfinished" if trial.state == "running" else trial.state for trial in searched)
    names = ("complete", "pruned", "failed", "unfinished")
    counts = ", ".join(f"{states[state]} {state}" for state in names if states[state])
    if not points:
        finite = any(best(trial.evaluations) for trial in searched)
        reason = "no evaluation is within the limits" if finite else "no evaluation has a finite score"
        return Group(
            Text(f"No front yet: {reason} ({counts or 'no trials'})."),
            trials_table(trials),
        )
    measured = counted(sum(len(trial.evaluations) for trial in searched), "evaluation")
    if slices := sum(len(evaluation.slices) for trial in searched for evaluation in trial.evaluations):
        measured += f" and {counted(slices, 'slice')}"
    rows: list[RenderableType] = [
        front_table(points, snapshot, varied),
        *([listed] if (listed := trial_settings(points, varied)) else []),
        Text(f"\n{origins(points)} on the front, out of {measured} (trials: {counts}); "
             f"hypervolume {snapshot.hypervolume:.4f}"),
    ]  # fmt: skip
    if snapshot.baseline:
        runs = len(trials) - len(searched)
        seeds_note = ", with new seeds where confirmed" if front_statistics(snapshot).confirmed else ""
        note = (
            f"gain: over plain LoRA with at most as many parameters{seeds_note}, tuned in "
            f"{counted(runs, 'further trial')} (its hypervolume is {snapshot.baseline_hypervolume:.4f})"
        )
        rows.append(Text(note, style="dim"))
    rows += [Text(note, style="dim") for note in front_notes(snapshot)]
    if failed := [trial for trial in trials if trial.state == "failed"]:
        rows += [Text(), trials_table(failed)]
    return Group(*rows)


def origins(points: Sequence[Point]) -> str:
    """`8 points from 3 trials`."""
    trials = len({point.trial for point in points})
    return counted(len(points), "point") + (f" from {counted(trials, 'trial')}" if points else "")


def rank_table(ranks: Mapping[str, int]) -> Table:
    """The rank of each layer and kind of weight, the first layer at the bottom as in the figure."""
    rows, columns, cells = rank_map.grid(ranks)
    table = plain_table()
    table.add_column("layer", justify="right", vertical="bottom", no_wrap=True)
    for column in columns:
        table.add_column(column.replace(".", ".\n"), justify="right", vertical="bottom", overflow="fold")
    for label, row in reversed(list(zip(rows, cells, strict=True))):
        table.add_row(label, *(Text("" if rank is None else str(rank), "" if rank else "dim") for rank in row))
    return table


def _gain(gain: float | None) -> str:
    return "" if gain is None else f"{gain:+.4f}"


def _table(*headers: str, gap: int = 2) -> Table:
    """A table without borders; a header that ends in `>` is right-aligned. Only the last column wraps."""
    table = plain_table(gap)
    for header in headers[:-1]:
        right = header.endswith(">")
        table.add_column(header.removesuffix(">"), justify="right" if right else "left", no_wrap=True)
    table.add_column(headers[-1], overflow="fold")
    return table


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that differ, in order of appearance."""
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if any(values.get(key) != settings[0].get(key) for values in settings)]


def setting(value: Any) -> str:
    """A setting's value as a short text."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ",".join(setting(item) for item in value)
    return str(value)
