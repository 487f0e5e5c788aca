"""Measures how often intervals of searches contain the scores of the new seeds of their fronts.

    python -m benchmarks.study.calibration benchmarks/curves/study_*.jsonl.gz

prints how often the next seed of a point was in the interval that is predicted from the seeds before: as the searches
ran, and with the seeds of each training in a random order of its own (the mean of 20). Searches of earlier versions
repeated all trainings with the same seeds, so that an unlucky seed came at the same time for all of them; in random
orders the seeds of different trainings are as independent as those of a search are now.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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

Key = tuple[int, int, int]  # line of the table, step, parameters


@dataclass(frozen=True)
class Calibration:
    """Counts over the fronts of some searches.

    Attributes:
        points: Points that were retrained and have an interval from the search.
        in_search: Those whose mean over new seeds is in this interval, which covers examples only.
        left_out: Scores of seeds that were predicted from those before; see `next_seeds`.
        predicted: Those in the predicted 90 % interval.
        expected: By how much the best score was expected to fall, mean over the searches with predictions, if any.
        loss: By how much it fell, mean over the searches.
    """

    points: int
    in_search: int
    left_out: int
    predicted: int
    expected: float | None
    loss: float


def calibration(results: Sequence[Result]) -> Calibration:
    """Compare intervals and expected losses with new seeds.

    Args:
        results: Complete searches.

    Returns:
        The counts.
    """
    in_search = [inside for result in results for inside in _in_search(result)]
    predicted = [inside for result in results for inside in next_seeds([e.sample.scores for e in result.front])]
    expected = [result.expected_loss for result in results if result.expected_loss is not None]
    return Calibration(
        len(in_search), sum(in_search), len(predicted), sum(predicted), float(np.mean(expected)) if expected else None,
        float(np.mean([result.loss for result in results])),
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
    racing gives no third seed to a point that has failed, so without them failures would seem rare. All seeds are
    scored on the same examples, so this checks what is assumed about seeds alone.

    Args:
        scores: Those of the seeds of each point of a search, in their order.

    Returns:
        For each predicted score: whether it is in its 90 % interval.
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
    parser.add_argument("tables", type=Path, nargs="+", help="made by benchmarks/export_curves.py")
    total: list[bool] = []
    total_shuffled: list[bool] = []
    for table in parser.parse_args().tables:
        random = np.random.default_rng(0)
        searches = seeds_of_searches(table)
        inside = [in_interval for points in searches for in_interval in next_seeds(list(points.values()))]
        shuffled = [
            in_interval
            for _ in range(SHUFFLES)
            for points in searches
            for in_interval in next_seeds(shuffle_seeds(points, random))
        ]
        print(f"{table.name}: {sum(inside)} of {len(inside)} ({np.mean(inside):.0%}), {np.mean(shuffled):.0%} shuffled")
        total, total_shuffled = total + inside, total_shuffled + shuffled
    print(f"all: {sum(total)} of {len(total)} ({np.mean(total):.0%}), {np.mean(total_shuffled):.0%} shuffled")


def seeds_of_searches(table: Path) -> list[dict[Key, np.ndarray]]:
    """Read the scores of the seeds of each point of each search in a table, in their order."""
    searches: dict[str, dict[Key, list[float]]] = {}
    for number, line in enumerate(read_lines(table)):
        for _, step, params, score in sorted(line["seeds"]):
            searches.setdefault(line["search"], {}).setdefault((number, step, params), []).append(score)
    return [{key: np.array(scores) for key, scores in points.items()} for points in searches.values()]


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
