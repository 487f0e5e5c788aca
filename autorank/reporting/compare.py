"""Searches side by side: their fronts in one table, one picture, one page, each against the first that is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from autorank.errors import AutorankError
from autorank.reporting.tables import count
from autorank.spec import SearchSpec
from autorank.trials.front import Point, candidates, hypervolume, non_dominated
from autorank.trials.snapshot import Snapshot

DRAWS, SEED, SHARE = 2000, 0, 0.95
COLUMNS = ("trials", "hypervolume", "ratio", "largest gain", "mean")
SAME = ("name", "data", "text", "label", "prompt", "completion", "metric", "tune_split", "max_eval_examples")
NOTE = (
    "ratio: of the hypervolume to the first search's, with the 95% interval of a bootstrap over trials. That accounts "
    "for which settings happened to be tried; not for other training seeds, for the choice of the validation examples, "
    "nor for samplers that learn from one trial for the next.\n"
    "gain: score above the first search's best with no more parameters, the largest and the mean over log parameters."
)


@dataclass(frozen=True)
class Searched:
    """A search to compare."""

    spec: SearchSpec
    snapshot: Snapshot
    reference: tuple[float, float]


@dataclass(frozen=True)
class Compared:
    """A search's front, and how it stands to the first search's (of which these fields are None).

    Attributes:
        hypervolume: with the reference that all searches share.
        low, high: the ratio's interval.
        gain: the largest, at `gain_at` parameters.
        lowest, highest: the range of parameters of the gains.
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
    mean_gain: float | None = None
    lowest: int | None = None
    highest: int | None = None


def compare(searches: Sequence[Searched]) -> list[Compared]:
    """Every search against the first.

    The reference is the worst of theirs. The gains' range is from the larger of the two smallest adapters, where both
    fronts have begun, to the larger of the two largest: beyond its last point a front offers that point.

    Raises:
        AutorankError: they were not scored on the same data, or one has no front.
    """
    check(searches)
    reference = common_reference(searches)
    first, *others = searches
    drawn = resampled(first, reference, 0)
    rows = [_alone(first, reference)]
    for index, other in enumerate(others, start=1):
        alone, theirs = _alone(other, reference), resampled(other, reference, index)
        ratios = theirs[drawn > 0] / drawn[drawn > 0]
        low, high = np.quantile(ratios, [(1 - SHARE) / 2, (1 + SHARE) / 2]) if len(ratios) else (None, None)
        ratio = alone.hypervolume / rows[0].hypervolume if rows[0].hypervolume else None
        found = {"ratio": ratio, "low": _number(low), "high": _number(high)}
        rows.append(Compared(**asdict(alone) | found | gains(other.snapshot.points, first.snapshot.points)))
    return rows


def check(searches: Sequence[Searched]) -> None:
    """Raises AutorankError unless there are two, scored alike on the same data, each with a front."""
    if len(searches) < 2:
        raise AutorankError("One search is nothing to compare; name two or more.")
    first, *others = searches
    for other in others:
        mine, theirs = first.spec.task.model_dump(), other.spec.task.model_dump()
        held_out = ("max_train_examples",) if mine["tune_split"] else ()  # of these
        if differing := [name for name in (*SAME, *held_out) if mine[name] != theirs[name]]:
            lines = "\n".join(f"  {name}: {mine[name]} and {theirs[name]}" for name in differing)
            raise AutorankError(
                f"{first.spec.name} and {other.spec.name} were not scored on the same data:\n{lines}\n"
                "Scores of different tasks or validation data cannot be compared."
            )
    for each in searches:
        if not each.snapshot.points:
            raise AutorankError(f"{each.spec.name} has no front yet; `autorank front {each.spec.name}` says why.")


def common_reference(searches: Sequence[Searched]) -> tuple[float, float]:
    """The most parameters and the lowest score of the searches' own."""
    return max(each.reference[0] for each in searches), min(each.reference[1] for each in searches)


def resampled(search: Searched, reference: tuple[float, float], stream: int, draws: int = DRAWS) -> np.ndarray:
    """Hypervolumes of the front when the search's trials, the control's left out, are drawn again with replacement.

    `stream`: of random numbers, its own for each search. Returns: draws.
    """
    own, objectives = [trial for trial in search.snapshot.trials if not trial.control], search.spec.objectives
    place = {trial.number: index for index, trial in enumerate(own)}
    # of a trial only what it does not beat itself can ever be on a front
    points = [p for trial in own for p in non_dominated(candidates([trial], objectives))]
    points = sorted((p for p in points if p.adapter_params < reference[0]), key=lambda p: p.adapter_params)
    if not points:
        return np.zeros(draws)
    height = np.array([max(p.score - reference[1], 0.0) for p in points])
    widths = np.diff([*(float(p.adapter_params) for p in points), reference[0]])
    trial = np.array([place[p.trial] for p in points])
    generator = np.random.default_rng([SEED, stream])
    area = np.empty(draws)
    for draw in range(draws):
        there = np.zeros(len(own), bool)
        there[generator.integers(len(own), size=len(own))] = True
        area[draw] = np.maximum.accumulate(np.where(there[trial], height, 0.0)) @ widths
    return area / (reference[0] * (1 - reference[1]))


def gains(points: Sequence[Point], first: Sequence[Point]) -> dict[str, Any]:
    """How much higher the front `points` is than `first` at equal parameters: the gains among `Compared`'s fields.

    Both are stairs, so the largest gain is where one of them rises; of equal ones, with the fewest parameters.
    """
    lowest = max(min(p.adapter_params for p in front) for front in (points, first))
    highest = max(p.adapter_params for p in (*points, *first))
    edges = sorted({p.adapter_params for p in (*points, *first) if p.adapter_params >= lowest})
    steps = np.array([_best(points, edge) - _best(first, edge) for edge in edges])
    top = int(np.argmax(steps))
    widths = np.diff(np.log10(np.maximum(edges, 1)))
    mean = float(steps[:-1] @ widths / widths.sum()) if widths.sum() else float(steps[-1])
    return {
        "gain": float(steps[top]), "gain_at": edges[top], "mean_gain": mean, "lowest": lowest, "highest": highest,
    }  # fmt: skip


def as_table(rows: Sequence[Compared]) -> Table:
    """A row a search, for a terminal of 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("search", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *cells(row))
    return table


def cells(row: Compared) -> list[str]:
    """What a table says of a search under COLUMNS; of the first, nothing about gains."""
    interval = "" if row.low is None else f" [{row.low:.2f}, {row.high:.2f}]"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}{interval}"
    found = [str(row.trials), f"{row.hypervolume:.4f}", ratio]
    if row.gain is None or row.gain_at is None:
        return [*found, "", ""]
    return [*found, f"{row.gain:+.3f} at {count(row.gain_at)}", f"{row.mean_gain:+.3f}"]


def as_json(rows: Sequence[Compared]) -> str:
    """A list of objects."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False)


def as_csv(rows: Sequence[Compared]) -> str:
    """A header line and a line a search; methods joined by `+`."""
    text = io.StringIO()
    flat: list[Mapping[str, Any]] = [asdict(row) | {"methods": "+".join(row.methods)} for row in rows]
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _alone(each: Searched, reference: tuple[float, float]) -> Compared:
    points = each.snapshot.points
    return Compared(
        each.spec.name, tuple(entry.method for entry in each.spec.methods), len(each.snapshot.trials), len(points),
        min(p.adapter_params for p in points), max(p.score for p in points), hypervolume(points, reference),
    )  # fmt: skip


def _best(points: Sequence[Point], most: int) -> float:
    return max(p.score for p in points if p.adapter_params <= most)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
