"""Measures forecasts of hypervolume on simulated searches: whether limits hold, and the cost of `--stop-when-flat`.

    python -m benchmarks.simulation.forecast --seeds 10 \\
        --curves benchmarks/curves/sst2_lora_drop.jsonl,benchmarks/curves/sst2_lora_slices.jsonl

Searches of 60 trials replay recorded curves (see `benchmarks.simulation.simulator`). After 8, 12, 16, 24 and 32
trials, the gain of 4, 8 and 16 further trials is forecast. The first line of the output has the share of gains within
their 90% limit, the mean forecast and the mean gain. The second line has the number of trials after which
`--stop-when-flat` stops, and the share of the final hypervolume that is missing at that time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.spec import SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.front import NO_LIMITS
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot
from autorank.trials.statistics.forecast import FLAT_HORIZON_TRIALS, forecast, subset_hypervolumes
from benchmarks.simulation.curves import Curves
from benchmarks.simulation.simulator import memory_journal, quiet_optuna, simulate

TRIALS = 60
TRIALS_SO_FAR, FURTHER_TRIALS = (8, 12, 16, 24, 32), (4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    quiet_optuna()
    forecasts, stops = [], []
    for curves in (Curves.read(Path(file)) for file in arguments.curves.split(",")):
        for seed in range(arguments.seeds):
            trials = search(curves, seed)
            growth = subset_hypervolumes(trials, np.tri(len(trials), dtype=bool), curves.reference, NO_LIMITS)
            forecasts += check_forecasts(trials, curves.reference, growth)
            stops.append(stopping_point(trials, curves.reference, growth))
    rows = np.array(forecasts)
    print(f"{len(rows)} forecasts: {rows[:, 0].mean():.1%} covered; forecast {rows[:, 1].mean():.4f}, "
          f"gain {rows[:, 2].mean():.4f} on average")  # fmt: skip
    stop_trials, missing = np.array(stops).T
    print(f"{len(stops)} searches stop after {np.median(stop_trials):.0f} trials (median), {missing.mean():.2%} "
          f"missing on average, {missing.max():.2%} at most")  # fmt: skip


def search(curves: Curves, seed: int) -> list[TrialRecord]:
    """The trials of a simulated search."""
    spec = SearchSpec(
        name="simulated", task=TaskSpec(name="recorded"), training=TrainingSpec(slices="auto"), seed=seed,
        methods=(curves.entry,),
    )  # fmt: skip
    journal = memory_journal(spec, curves.reference)
    searcher = JournalSearcher(journal, curves.bounds, trials=TRIALS, evaluations=curves.evaluations)
    simulate(searcher, Scheduler(searcher), curves, 2, 1e9)
    return journal.trials()


def snapshot_of(trials: list[TrialRecord], reference: tuple[float, float]) -> Snapshot:
    """A search after these trials."""
    return Snapshot(trials, [], [], reference=reference)


def check_forecasts(
    trials: list[TrialRecord], reference: tuple[float, float], growth: np.ndarray
) -> list[tuple[bool, float, float]]:
    """For each forecast: whether its interval covers the gain, the forecast and the gain."""
    rows = []
    for completed in TRIALS_SO_FAR:
        for further in FURTHER_TRIALS:
            prediction = forecast(snapshot_of(trials[:completed], reference), further)
            if prediction is not None and completed + further <= len(trials):
                gain = float(growth[completed + further - 1] - growth[completed - 1])
                rows.append((gain <= prediction.high + 1e-12, prediction.mean, gain))
    return rows


def stopping_point(trials: list[TrialRecord], reference: tuple[float, float], growth: np.ndarray) -> tuple[int, float]:
    """Number of trials after which a search stops, and the share of its final hypervolume that is then missing."""
    for completed in range(1, len(trials) + 1):
        prediction = forecast(snapshot_of(trials[:completed], reference), FLAT_HORIZON_TRIALS)
        if prediction is not None and prediction.flat:
            break
    return completed, float(1 - growth[completed - 1] / growth[-1])


if __name__ == "__main__":
    main()
