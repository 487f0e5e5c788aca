"""Measures how often intervals of searches contain the scores of the new seeds of their fronts.

    python -m benchmarks.study.calibration benchmarks/curves/study_*.jsonl.gz

prints how often the next seed of a point was in the interval that is predicted from the seeds before. Searches of
earlier versions repeated all trainings with the same seeds, so that an unlucky seed came at the same time for all of
them. So the searches in which each training has seeds of its own are counted apart, and all with the seeds of each
training in a random order of its own (the mean of 20), which makes them as independent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autorank.trials.statistics.bootstrap import interval
from autorank.trials.statistics.certainty import assess
from autorank.trials.statistics.seed_variance import draw_variances
from benchmarks.simulation.curves import read_lines
from benchmarks.study.results import Result

DRAWS = 4000
SHUFFLES = 20
SHARED_SEED = 1000  # the first seed of all trainings in earlier versions

Key = tuple[int, int, int]  # line of the table, step, parameters


@dataclass(frozen=True)
class Calibration:
    """Counts over the fronts of some searches.

    Attributes:
        points: Points that were retrained and have an interval from the search.
        in_search: Those whose mean over new seeds is in this interval, which covers examples only.
        left_out: Scores of seeds that were predicted from those before; see `next_seeds`.
        predicted: Those in the predicted 90% interval.
        expected_drop: By how much the best score was expected to drop, mean over the searches with predictions, if any.
        drop: By how much it dropped, mean over the searches.
    """

    points: int
    in_search: int
    left_out: int
    predicted: int
    expected_drop: float | None
    drop: float


def calibration(results: Sequence[Result]) -> Calibration:
    """Compare intervals and expected drops with new seeds.

    Args:
        results: Complete searches.

    Returns:
        The counts.
    """
    in_search = [inside for result in results for inside in _in_search(result)]
    predicted = [inside for result in results for inside in next_seeds([e.sample.scores for e in result.front])]
    expected = [result.expected_drop for result in results if result.expected_drop is not None]
    return Calibration(
        len(in_search), sum(in_search), len(predicted), sum(predicted), float(np.mean(expected)) if expected else None,
        float(np.mean([result.drop for result in results])),
    )  # fmt: skip


def _in_search(result: Result) -> list[bool]:
    """For each retrained point with an interval: whether it contains the mean of the new seeds."""
    certainty = assess(result.snapshot)
    intervals = {} if certainty is None else certainty.points
    pairs = [(intervals[entry.point.key], entry.sample.mean) for entry in result.front if entry.point.key in intervals]
    return [point.low <= mean <= point.high for point, mean in pairs]


def next_seeds(scores: Sequence[np.ndarray]) -> list[bool]:
    """Predict the score of each seed after the second, as the search could before it ran the seed.

    A point's score is predicted from its earlier seeds, with the variances that `summarize` would use: they are drawn
    from equally many seeds of the other points, or fewer where they have fewer. Points with two seeds matter, too:
    `--confirm-seeds` gives no third seed to a point that has failed, so without them failures would seem rare. All
    seeds are scored on the same examples, so this checks what is assumed about seeds alone.

    Args:
        scores: Those of the seeds of each point of a search, in their order.

    Returns:
        For each predicted score: whether it is in its 90% interval.
    """
    inside: list[bool] = []
    for number in range(2, max(map(len, scores), default=0)):
        earlier_scores = [values[:number] for values in scores]
        counts = np.array([len(values) for values in earlier_scores])
        observed = np.array([values.var(ddof=1) if len(values) > 1 else 0.0 for values in earlier_scores])
        random = np.random.default_rng(0)
        variances = draw_variances(observed, counts - 1.0, DRAWS, random)
        deviations = np.sqrt(variances * (1 + 1 / counts)) * random.standard_normal(variances.shape)
        for values, earlier, deviation in zip(scores, earlier_scores, deviations.T, strict=True):
            if len(values) > number:
                low, high = interval(earlier.mean() + deviation)
                inside.append(low <= values[number] <= high)
    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", help="made by benchmarks/simulation/export_curves.py")
    print("| table | shared seeds | own seeds | shuffled |\n|---|---|---|---|")
    totals = np.zeros((3, 2), int)
    for table in parser.parse_args().tables:
        shared, own = seeds_of_searches(table)
        random = np.random.default_rng(0)
        shuffled = [shuffle_seeds(points, random) for _ in range(SHUFFLES) for points in shared + own]
        counts = np.array([_count(list(points.values()) for points in searches) for searches in (shared, own)])
        counts = np.vstack([counts, _count(shuffled)])
        print(_row(table.name.split(".")[0], counts))
        totals += counts
    print(_row("all", totals))


def _count(searches: Iterable[Sequence[np.ndarray]]) -> tuple[int, int]:
    """The number of seeds in their intervals, and of all predicted seeds."""
    inside = [in_interval for scores in searches for in_interval in next_seeds(scores)]
    return sum(inside), len(inside)


def _row(name: str, counts: np.ndarray) -> str:
    *cells, shuffled = [f"{inside} of {total} ({inside / total:.0%})" if total else "" for inside, total in counts]
    return f"| {name} | {' | '.join(cells)} | {shuffled.rpartition('(')[2].rstrip(')')} |"


def seeds_of_searches(table: Path) -> tuple[list[dict[Key, np.ndarray]], list[dict[Key, np.ndarray]]]:
    """Read the scores of the seeds of each point in a table, in the order of the trainings.

    Args:
        table: The searches of a task.

    Returns:
        The points of each search in which all trainings have the same seeds, and in which each has its own.
    """
    searches: dict[str, dict[Key, list[float]]] = {}
    with_shared_seeds = set()
    for number, line in enumerate(read_lines(table)):
        for seed, step, params, score in line["seeds"]:
            searches.setdefault(line["search"], {}).setdefault((number, step, params), []).append(score)
            if seed == SHARED_SEED:
                with_shared_seeds.add(line["search"])
    shared: list[dict[Key, np.ndarray]] = []
    own: list[dict[Key, np.ndarray]] = []
    for name, points in searches.items():
        group = shared if name in with_shared_seeds else own
        group.append({key: np.array(scores) for key, scores in points.items()})
    return shared, own


def shuffle_seeds(points: dict[Key, np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Put the seeds of each training in an order of its own, the same for all points of the training.

    Args:
        points: Point -> the scores of its seeds.
        random: Generator.

    Returns:
        The scores of each point.
    """
    orders: dict[tuple[int, int, int], np.ndarray] = {}
    result = []
    for (trial, step, _), scores in points.items():
        order = orders.setdefault((trial, step, len(scores)), random.permutation(len(scores)))
        result.append(scores[order])
    return result


if __name__ == "__main__":
    main()
