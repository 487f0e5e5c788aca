"""Compares seeds for contested points of a front (`--confirm-seeds`) with equal seeds for all points.

    python -m benchmarks.simulation.confirmation_seeds --seeds 4,6 --repetitions 300

Each repetition draws the true mean scores of a front of 8 points. They rise with the parameters by `step` on average;
points whose mean is not above all earlier ones are not on the true front. A training of a point has a normally
distributed score around its mean, with standard deviation 0.008, and on the front `failing` 0.08 for a quarter of the
points. `equal` trains all points equally often, `adaptive` as `--confirm-seeds` does, with as many trainings in all.
The table has the share of points whose membership of the front is predicted wrongly (probability above or below one
half), and the mean squared error of the probabilities (Brier score).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autorank.searching.confirmation_seeds import equal_seeds, next_training
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.confirmation_stats import contested, summarize

POINTS, DEVIATION, NOISE = 8, 0.008, 0.003
FRONTS = {"flat": (0.004, 0.0), "usual": (0.008, 0.0), "steep": (0.02, 0.0), "failing": (0.008, 0.25)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="4,6")
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    lines = [
        "| seeds | front | equal: wrong | adaptive: wrong | equal: Brier | adaptive: Brier | trainings |",
        "|---" * 7 + "|",
    ]
    for seeds in map(int, arguments.seeds.split(",")):
        for name, (step, failing) in FRONTS.items():
            results = np.array(
                [list(compare(seeds, step, failing, repetition)) for repetition in range(arguments.repetitions)]
            )
            equal, adaptive = results.mean(axis=0)
            lines.append(
                f"| {seeds} | {name} | {equal[0]:.3f} | {adaptive[0]:.3f} | {equal[1]:.4f} | {adaptive[1]:.4f} "
                f"| {equal[2]:.0f}, {adaptive[2]:.1f} |"
            )
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def compare(seeds: int, step: float, failing: float, repetition: int) -> Iterator[tuple[float, float, int]]:
    """Yield share of wrong points, Brier score and number of trainings on one front: for equal, then for adaptive."""
    rng = np.random.default_rng([seeds, round(1e4 * step), repetition])
    means = 0.8 + np.cumsum(np.abs(rng.normal(size=POINTS)) * step + NOISE * rng.normal(size=POINTS))
    noise = DEVIATION * rng.normal(size=(POINTS, 2 * seeds))
    noise[rng.random(POINTS) < failing] *= 10
    truth = means > np.maximum.accumulate(np.concatenate([[-np.inf], means[:-1]]))
    for adaptive in (False, True):
        counts = dict.fromkeys(range(POINTS), equal_seeds(seeds) if adaptive else seeds)
        while adaptive and (trial := _next(counts, means, noise, seeds)) is not None:
            counts[trial] += 1
        points, snapshot = _front(counts, means, noise)
        stats = summarize(points, snapshot)
        probabilities = np.array([stats[point.key].on_front for point in points], dtype=float)
        wrong_share = float(((probabilities > 0.5) != truth).mean())
        yield wrong_share, float(((probabilities - truth) ** 2).mean()), sum(counts.values())


def _next(counts: dict[int, int], means: np.ndarray, noise: np.ndarray, seeds: int) -> int | None:
    points, snapshot = _front(counts, means, noise)
    weights = contested(points, snapshot)
    return next_training(counts, {point.trial: weights.get(point.key, 0.0) for point in points}, seeds)


def _front(counts: dict[int, int], means: np.ndarray, noise: np.ndarray) -> tuple[list[Point], Snapshot]:
    """The points with the results of their first seeds."""
    points = [Point(trial, 1, 100 * (trial + 1), means[trial], {}, 0, {}) for trial in counts]
    confirmed = {
        (trial, 1, 100 * (trial + 1), seed): {"score": float(means[trial] + noise[trial, seed])}
        for trial, count in counts.items()
        for seed in range(count)
    }
    return points, Snapshot([], points, [], confirmed)


if __name__ == "__main__":
    main()
