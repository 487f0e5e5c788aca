"""Compares the figures of a paper with the measured ones."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autorank.recipes.results import RecipeRun
from autorank.recipes.rows import Row, rows
from autorank.recipes.schema import Recipe, figure
from autorank.reporting.front_csv_json import csv_text
from autorank.reporting.tables import count, plain_table

Runs = Mapping[RecipeRun, Mapping[str, Any]]
COLUMNS = (
    "line", "method", "task", "metric", "reported", "reported_sd", "measured", "measured_sd", "last", "seeds",
    "reported_params", "measured_params", "measured_nonzero", "failed", "note", "assumed",
)  # fmt: skip


class _Measured(NamedTuple):
    """Figures of a training, or their means over tasks. Scores are in percent."""

    score: float  # score of the best evaluation
    last: float  # score of the last evaluation
    params: float  # adapter parameters of the best evaluation
    nonzero: float  # those of them that are not zero


def compared(recipe: Recipe, runs: Runs) -> list[dict[str, Any]]:
    """Return one row for each line, task and reported metric, and for each average. Scores are in percent.

    Args:
        recipe: The recipe.
        runs: RecipeRun -> result of a training.

    Returns:
        Dicts with the keys `COLUMNS`. `measured` is the mean over seeds of each run's best evaluation, as in the
        papers; `last` that of the last evaluations; `measured_params` belongs to the best evaluation.
    """
    all_rows = rows(recipe)
    entries = []
    for line in recipe.methods:
        line_rows = [row for row in all_rows if row.line == line]
        entries += [entry for row in line_rows for entry in _of_row(recipe, row, runs)]
        if recipe.methods[line].reported.average is not None:
            entries.append(_average(recipe, line_rows, runs))
    return entries


def as_json(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a JSON list of objects."""
    return json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False)


def as_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV with a header line; lists are joined by commas."""
    rows = [[entry[name] for name in COLUMNS] for entry in entries]
    return csv_text(COLUMNS, [[", ".join(v) if isinstance(v, list) else v for v in row] for row in rows])


def as_table(entries: Sequence[Mapping[str, Any]]) -> Group:
    """Return the rows that were run, or all if none was, as a table for the terminal."""
    run = [entry for entry in entries if entry["seeds"] or entry["failed"]]
    omitted = len(entries) - len(run) if run else 0
    footer: list[RenderableType] = []
    if omitted:
        footer.append(Text(f"\n{omitted} more rows were not run; --format json and csv list their reported scores."))
    notes = {entry["line"]: entry["note"] for entry in run or entries if entry["note"]}
    footer += [Text(f"\n{line}: {note}", style="dim") for line, note in notes.items()]
    return Group(_table(run or entries), *footer)


def _table(entries: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table(gap=1)
    for column in ("line", "task", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("reported", "measured", "seeds", "params:\nreported", "\nmeasured"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for entry in entries:
        params, nonzero = entry["measured_params"], entry["measured_nonzero"]
        size = "" if params is None else count(params) + (f" ({count(nonzero)})" if nonzero != params else "")
        failed = f"{entry['failed']} failed" if entry["failed"] else ""
        table.add_row(
            entry["line"], entry["task"], entry["metric"], _spread(entry["reported"], entry["reported_sd"]),
            _spread(entry["measured"], entry["measured_sd"]), str(entry["seeds"] or ""), entry["reported_params"] or "",
            size, Text(failed, style="dim"),
        )  # fmt: skip
    return table


def _of_row(recipe: Recipe, row: Row, runs: Runs) -> list[dict[str, Any]]:
    reported = recipe.methods[row.line].reported
    printed = reported.score.get(row.task)
    figures = printed if isinstance(printed, Mapping) else {row.metric: printed}
    return [_entry(recipe, row, metric, printed, runs) for metric, printed in figures.items()]


def _entry(recipe: Recipe, row: Row, metric: str, printed: Any, runs: Runs) -> dict[str, Any]:
    reported = recipe.methods[row.line].reported
    params = reported.params.get(row.task) if isinstance(reported.params, dict) else reported.params
    outcomes = [outcome for run, outcome in runs.items() if run.row == row.name]
    measured = [figures for outcome in outcomes if (figures := _measured(outcome, metric))]
    return _filled(
        recipe, row.line, row.task, metric, printed, measured, reported_params=params,
        failed=len(outcomes) - len(measured), assumed=sorted(row.assumed),
    )  # fmt: skip


def _average(recipe: Recipe, line_rows: Sequence[Row], runs: Runs) -> dict[str, Any]:
    """The average over the tasks, of the seeds that all tasks have."""
    averages = []
    for seed in sorted({run.seed for run in runs}):
        outcomes = [(runs.get(RecipeRun(row.name, seed), {}), row.metric) for row in line_rows]
        measured = [figures for outcome, metric in outcomes if (figures := _measured(outcome, metric))]
        if len(measured) == len(line_rows):
            averages.append(_Measured(*map(statistics.fmean, zip(*measured, strict=True))))
    reported = recipe.methods[line_rows[0].line].reported
    params = reported.params if isinstance(reported.params, str) else None
    return _filled(recipe, line_rows[0].line, "average", "", reported.average, averages, reported_params=params)


def _measured(outcome: Mapping[str, Any], metric: str) -> _Measured | None:
    """The figures of a training; None if no score is finite."""
    scored = [
        (100 * score, evaluation)
        for evaluation in outcome.get("evaluations", ())
        if math.isfinite(score := evaluation["metrics"][metric])
    ]
    if not scored:
        return None
    score, best = max(scored, key=lambda item: item[0])
    return _Measured(score, scored[-1][0], best["adapter_params"], best["nonzero_params"])


def _filled(
    recipe: Recipe, line: str, task: str, metric: str, printed: Any, measured: Sequence[_Measured], **known: Any
) -> dict[str, Any]:
    spec = recipe.methods[line]
    mean, sd = (None, None) if printed is None else figure(printed)
    scores = [figures.score for figures in measured]
    values: dict[str, Any] = {
        "line": line, "method": spec.method or line, "task": task, "metric": metric, "reported": mean,
        "reported_sd": sd, "measured": _mean(scores), "last": _mean([figures.last for figures in measured]),
        "seeds": len(scores), "measured_sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "measured_params": _mean([figures.params for figures in measured]),
        "measured_nonzero": _mean([figures.nonzero for figures in measured]),
        "reported_params": None, "failed": 0, "assumed": [], "note": spec.not_run,
    }  # fmt: skip
    return values | known


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"
