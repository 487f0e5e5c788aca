"""Searches that start from an earlier one against searches that do not, on recorded curves.

    python benchmarks/warm_start.py --curves benchmarks/curves/sst2.jsonl --seeds 12

For each seed, one random half of the recorded trials is the earlier task, and a search of 20 whole trials runs on it.
The other half is the new task, which is therefore much like the earlier one: the figures are an upper limit of what
transfers. A search runs on it without and with `--warm-start`, both with the same seed. The table has the cost, in
whole trials, after which each has 95 % and 99 % of the final hypervolume of the search without, and the difference
between the final hypervolumes; medians over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend

from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.searching.sampling.warm_start import earlier_trials
from autorank.spec import EarlierTrial, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.journal.study_metadata import write_study
from benchmarks.simulation.curves import Curves
from benchmarks.simulation.simulator import Progress, simulate

TRIALS = 20  # whole trials: the budget of each search
SHARES = (0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=12)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Optuna's, of what is experimental
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines = [json.loads(line) for line in arguments.curves.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["curve"]]
    rows = [compared(lines, seed) for seed in range(arguments.seeds)]
    print("| cold: 95% | warm: 95% | cold: 99% | warm: 99% | final, warm minus cold |\n" + "|---" * 5 + "|")
    print("| " + " | ".join(f"{value:.4g}" for value in np.median(rows, axis=0)) + " |")


def compared(lines: list[dict[str, Any]], seed: int) -> list[float]:
    """The row of one seed."""
    order = np.random.default_rng(seed).permutation(len(lines))
    earlier, new = (Curves([lines[i] for i in half]) for half in np.array_split(order, 2))
    with tempfile.TemporaryDirectory() as runs:
        search(Path(runs), "earlier", earlier, seed + 1000)
        warm = earlier_trials("earlier", Path(runs), spec("warm", new, seed))
        histories = [search(Path(runs), name, new, seed, trials) for name, trials in (("cold", ()), ("warm", warm))]
    final = histories[0][-1].hypervolume
    row = [_cost(history, share * final) / new.trial_cost for share in SHARES for history in histories]
    return [*row, histories[1][-1].hypervolume - final]


def spec(name: str, curves: Curves, seed: int, warm: tuple[EarlierTrial, ...] = ()) -> SearchSpec:
    """A search of a table."""
    return SearchSpec(
        name=name, task=TaskSpec(name="demo"), training=TrainingSpec(slices="auto"), methods=(curves.entry,), seed=seed,
        warm_start=warm,
    )  # fmt: skip


def search(runs: Path, name: str, curves: Curves, seed: int, warm: tuple[EarlierTrial, ...] = ()) -> list[Progress]:
    """Run a search and return its progress; its journal is in `runs`."""
    folder = runs / name
    folder.mkdir()
    backend = JournalFileBackend(str(folder / JOURNAL))
    write_study(backend, spec(name, curves, seed, warm), curves.reference)
    journal = Journal(backend, folder)
    searcher = JournalSearcher(journal, curves.bounds, trials=10**6, evaluations=max(map(len, curves.curves)))
    return simulate(searcher, Scheduler(searcher), curves, 2, TRIALS * curves.trial_cost)


def _cost(history: list[Progress], hypervolume: float) -> float:
    return next((progress.cost for progress in history if progress.hypervolume >= hypervolume), math.inf)


if __name__ == "__main__":
    main()
