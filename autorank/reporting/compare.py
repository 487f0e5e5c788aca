"""Compares searches: their fronts in one table, each against the first search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from autorank.defaults import COLUMN_OPTIONS
from autorank.errors import AutorankError
from autorank.reporting.front_csv_json import csv_text
from autorank.reporting.search_results import SearchResults
from autorank.reporting.tables import count, plain_table
from autorank.tasks.metrics.resampling import bootstrap_scores
from autorank.trials.front import hypervolume
from autorank.trials.point import Point
from autorank.trials.statistics import bootstrap, predictions
from autorank.trials.statistics.certainty import RESAMPLES, sample_of
from autorank.trials.statistics.forecast import subset_hypervolumes

DRAWS, SEED, CONFIDENCE = 2000, 0, 0.95
COLUMNS = ("trials", "hypervolume", "ratio", "largest gain", "mean")
SAME = (
    "name", "data", *COLUMN_OPTIONS, "label_type", "train_split", "eval_split", "metric", "metric_source", "tune_split",
    "max_eval_examples",
)  # fmt: skip
NOTE = (
    "ratio: hypervolume relative to the first search, with the 95% interval of a bootstrap over trials. It accounts "
    "for the settings that happened to be tried, but not for other training seeds, for the choice of the validation "
    "examples, or for samplers that learn from one trial to the next.\n"
    "gain: score above the first search's best with at most as many parameters; the largest, with the share of "
    "resamples of the validation examples in which it is above 0 (the more sizes, the more often by chance), and the "
    "mean over log parameters."
)


@dataclass(frozen=True)
class ComparisonRow:
    """A search's front, and how it compares with the first search's (fields that are None in the first row).

    Attributes:
        name: The search.
        methods: Its methods, without the baseline.
        trials: Number of trials.
        points: Number of points on the front.
        smallest: Adapter parameters of the smallest point.
        best: The best score.
        hypervolume: Hypervolume with the reference point that all searches share.
        ratio: Hypervolume relative to the first search's.
        low: Lower end of the ratio's interval.
        high: Upper end of the ratio's interval.
        gain: The largest gain.
        gain_at: Adapter parameters of the largest gain.
        better: Probability that the largest gain is above 0, over resamples of the validation examples; None without
            predictions of both points on the same examples.
        gain_low: Lower end of the 90% interval of the largest gain.
        gain_high: Upper end of this interval.
        mean_gain: The mean gain over the logarithm of the parameters.
        lowest: Lower end of the range of parameters of the gains.
        highest: Upper end of the range of parameters of the gains.
    """

    name: str
    methods: tuple[str, ...]
    trials: int
    points: int
    smallest: int
    best: float
    hypervolume: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    gain_at: int | None = None
    better: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    mean_gain: float | None = None
    lowest: int | None = None
    highest: int | None = None


def compare(searches: Sequence[SearchResults]) -> list[ComparisonRow]:
    """Compare every search with the first.

    The shared reference point is the worst of the searches' own. Gains are taken from the larger of the two smallest
    adapters, where both fronts have started, to the larger of the two largest: beyond its last point a front offers
    that point.

    Args:
        searches: At least two searches that were scored on the same data.

    Returns:
        A row for each search.

    Raises:
        AutorankError: The searches cannot be compared; see `check_comparable`.
    """
    check_comparable(searches)
    reference = common_reference(searches)
    first, *others = searches
    first_volumes = bootstrap_hypervolumes(first, reference, 0)
    rows = [_row(first, reference)]
    for index, other in enumerate(others, start=1):
        row, volumes = _row(other, reference), bootstrap_hypervolumes(other, reference, index)
        ratios = volumes[first_volumes > 0] / first_volumes[first_volumes > 0]
        ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        low, high = map(float, np.quantile(ratios, ends)) if len(ratios) else (None, None)
        ratio = row.hypervolume / rows[0].hypervolume if rows[0].hypervolume else None
        values = {"ratio": ratio, "low": low, "high": high} | gains(other.snapshot.points, first.snapshot.points)
        values |= _certainty(other, first, values["gain_at"])
        rows.append(ComparisonRow(**asdict(row) | values))
    return rows


def check_comparable(searches: Sequence[SearchResults]) -> None:
    """Check that searches can be compared.

    Args:
        searches: The searches.

    Raises:
        AutorankError: There are fewer than two searches, they were not scored on the same data, or one has no front.
    """
    if len(searches) < 2:
        raise AutorankError("Name at least two searches to compare.")
    first, *others = searches
    for other in others:
        first_task, other_task = first.spec.task.model_dump(), other.spec.task.model_dump()
        fields = (*SAME, "max_train_examples") if first_task["tune_split"] else SAME  # validation is a part of them
        if differing := [name for name in fields if first_task[name] != other_task[name]]:
            lines = "\n".join(f"  {name}: {first_task[name]} and {other_task[name]}" for name in differing)
            raise AutorankError(
                f"{first.spec.name} and {other.spec.name} were not scored on the same data:\n{lines}\n"
                "Scores on different tasks or validation data cannot be compared."
            )
        if (first.spec.model, first_task) == (other.spec.model, other_task) and _digest(first) != _digest(other):
            raise AutorankError(
                f"{first.spec.name} and {other.spec.name} were not scored on the same data: the files of "
                f"{first_task['data'] or first_task['name']} have changed in between. Run one of the searches again."
            )
    for search in searches:
        if not search.snapshot.points:
            name = search.spec.name
            raise AutorankError(f"{name} has no front yet. Run `autorank front {name}` to see why.")


def _digest(search: SearchResults) -> str:
    """The digest of the tokenized data, which depends on the base model and on the task's options; empty if unknown."""
    return "" if search.data is None else str(search.data["digest"])


def common_reference(searches: Sequence[SearchResults]) -> tuple[float, float]:
    """The most parameters and the lowest score among the searches' reference points."""
    params, scores = zip(*(search.snapshot.reference for search in searches), strict=True)
    return max(params), min(scores)


def bootstrap_hypervolumes(
    search: SearchResults, reference: tuple[float, float], stream: int, draws: int = DRAWS
) -> np.ndarray:
    """Hypervolumes of the front when the search's trials are resampled with replacement, without the baseline's.

    Args:
        search: The search.
        reference: The reference point, (adapter parameters, score).
        stream: Number of the random stream, different for each search.
        draws: Number of resamplings.

    Returns:
        The hypervolumes, of shape `draws`.
    """
    trials = [trial for trial in search.snapshot.trials if not trial.baseline]
    generator = np.random.default_rng([SEED, stream])
    chosen = np.zeros((draws, len(trials)), bool)
    for row in chosen:
        row[generator.integers(len(trials), size=len(trials))] = True
    return subset_hypervolumes(trials, chosen, reference, search.spec.objectives)


def gains(points: Sequence[Point], first: Sequence[Point]) -> dict[str, Any]:
    """How much higher one front is than another at equal parameters.

    Both are step functions, so the largest gain is at a step of one of them; if gains are equal, the one with the
    fewest parameters is reported.

    Args:
        points: A front.
        first: The front that it is compared with.

    Returns:
        The gains among `ComparisonRow`'s fields.
    """
    lowest = max(min(p.adapter_params for p in front) for front in (points, first))
    highest = max(p.adapter_params for p in (*points, *first))
    edges = sorted({p.adapter_params for p in (*points, *first) if p.adapter_params >= lowest})
    steps = np.array([_best(points, edge).score - _best(first, edge).score for edge in edges])
    top = int(np.argmax(steps))
    widths = np.diff(np.log10(np.maximum(edges, 1)))
    mean = float(steps[:-1] @ widths / widths.sum()) if widths.sum() else float(steps[-1])
    return {
        "gain": float(steps[top]), "gain_at": edges[top], "mean_gain": mean, "lowest": lowest, "highest": highest,
    }  # fmt: skip


def as_table(rows: Sequence[ComparisonRow]) -> Table:
    """The rows as a table for a terminal of 80 columns."""
    table = plain_table()
    table.add_column("search", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *cells(row))
    return table


def cells(row: ComparisonRow) -> list[str]:
    """The texts of a row under COLUMNS; those of gains are empty in the first row."""
    interval = "" if row.low is None else f" [{row.low:.2f}, {row.high:.2f}]"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}{interval}"
    texts = [str(row.trials), f"{row.hypervolume:.4f}", ratio]
    if row.gain is None or row.gain_at is None:
        return [*texts, "", ""]
    better = "" if row.better is None else f" ({row.better:.0%})"
    return [*texts, f"{row.gain:+.3f} at {count(row.gain_at)}{better}", f"{row.mean_gain:+.3f}"]


def as_json(rows: Sequence[ComparisonRow]) -> str:
    """The rows as a JSON list of objects."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False)


def as_csv(rows: Sequence[ComparisonRow]) -> str:
    """The rows as CSV with a header line; methods are joined by `+`."""
    flat = [asdict(row) | {"methods": "+".join(row.methods)} for row in rows]
    return csv_text(list(flat[0]), [list(row.values()) for row in flat])


def _row(search: SearchResults, reference: tuple[float, float]) -> ComparisonRow:
    """A search's row before it is compared."""
    methods, points = tuple(entry.method for entry in search.spec.methods), search.snapshot.points
    return ComparisonRow(
        search.spec.name, methods, len(search.snapshot.trials), len(points),
        min(p.adapter_params for p in points), max(p.score for p in points), hypervolume(points, reference),
    )  # fmt: skip


def _certainty(search: SearchResults, first: SearchResults, max_params: int) -> dict[str, float]:
    """The certainty of the largest gain, among the fields of a row; empty without predictions on the same examples."""
    models = []
    for results in (search, first):
        best = _best(results.snapshot.points, max_params)
        models += [model for point, model in predictions.candidates(results.snapshot) if point.key == best.key]
    if len(models) != 2 or sample_of(models[0]) != sample_of(models[1]):
        return {}
    scores = bootstrap_scores(models, RESAMPLES, np.random.default_rng(SEED))
    difference = scores[:, 0] - scores[:, 1]
    low, high = bootstrap.interval(difference)
    return {"better": float((difference > 0).mean()), "gain_low": low, "gain_high": high}


def _best(points: Sequence[Point], max_params: int) -> Point:
    return max((p for p in points if p.adapter_params <= max_params), key=lambda p: p.score)
