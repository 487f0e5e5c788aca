"""Compares searches with and without `--warm-start` on recorded curves.

    python -m benchmarks.simulation.warm_start --curves benchmarks/curves/sst2_lora_drop.jsonl --seeds 12

The earlier task is the table of `--earlier`, the new task that of `--curves`. Without `--earlier`, both are random
halves of one table, drawn anew for each seed. The tasks are then very similar, so the figures are an upper limit. For
each seed, one search with a budget of 20 complete trials runs on the earlier task, and one without and one with
`--warm-start` on the new task. With `--first` there is no earlier search; the warm search tries these settings first.
The table has the cost, in complete trials, after which each search has 95% and 99% of the final hypervolume of the
cold search, and the difference of the final hypervolumes, as medians over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from optuna.storages.journal import JournalFileBackend

from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.searching.sampling.warm_start import earlier_trials
from autorank.spec import EarlierTrial, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.journal.study_metadata import write_study
from benchmarks.simulation.curves import Curves, read_lines
from benchmarks.simulation.simulator import SimulatedProgress, quiet_optuna, simulate

TRIALS = 20  # budget of each search, in complete trials
SHARES = (0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--earlier", type=Path, help="table of the earlier task")
    parser.add_argument("--method", help="of tables with several methods")
    parser.add_argument("--first", type=json.loads, help="settings as JSON, instead of an earlier search")
    parser.add_argument("--seeds", type=int, default=12)
    arguments = parser.parse_args()
    quiet_optuna()
    rows = [compare(*tables(arguments, seed), seed, arguments.first) for seed in range(arguments.seeds)]
    print("| cold: 95% | warm: 95% | cold: 99% | warm: 99% | final, warm minus cold |\n" + "|---" * 5 + "|")
    print("| " + " | ".join(f"{value:.4g}" for value in np.median(rows, axis=0)) + " |")


def tables(arguments: argparse.Namespace, seed: int) -> tuple[Curves, Curves]:
    """The table of the earlier task and that of the new one."""
    if arguments.first is not None:
        return 2 * (Curves.read(arguments.curves, arguments.method),)
    if arguments.earlier:
        return Curves.read(arguments.earlier, arguments.method), Curves.read(arguments.curves, arguments.method)
    lines = [line for line in read_lines(arguments.curves) if line["curve"]]
    lines = [line for line in lines if arguments.method in (None, line["method"])]
    order = np.random.default_rng(seed).permutation(len(lines))
    earlier, new = (Curves([lines[i] for i in indices]) for indices in np.array_split(order, 2))
    return earlier, new


def compare(earlier: Curves, new: Curves, seed: int, first: dict[str, Any] | None = None) -> list[float]:
    """The costs and the difference in hypervolume for one seed, see above."""
    with tempfile.TemporaryDirectory() as runs:
        warm = warm_trials(Path(runs), earlier, new, seed) if first is None else (
            EarlierTrial(search="catalogue", method=new.entry.method, settings=first, ranks=(), first=True),
        )  # fmt: skip
        histories = [search(Path(runs), name, new, seed, trials) for name, trials in (("cold", ()), ("warm", warm))]
    final = histories[0][-1].hypervolume
    row = [_cost(history, share * final) / new.trial_cost for share in SHARES for history in histories]
    return [*row, histories[1][-1].hypervolume - final]


def warm_trials(runs: Path, earlier: Curves, new: Curves, seed: int) -> tuple[EarlierTrial, ...]:
    """The trials from which a search of the new task starts after one of the earlier task."""
    search(runs, "earlier", earlier, seed + 1000)
    return earlier_trials("earlier", runs, spec("warm", new, seed))


def spec(name: str, curves: Curves, seed: int, warm: tuple[EarlierTrial, ...] = ()) -> SearchSpec:
    """The specification of a search."""
    return SearchSpec(
        name=name, task=TaskSpec(name="demo"), training=TrainingSpec(slices="auto"), methods=(curves.entry,), seed=seed,
        warm_start=warm,
    )  # fmt: skip


def search(
    runs: Path, name: str, curves: Curves, seed: int, warm: tuple[EarlierTrial, ...] = ()
) -> list[SimulatedProgress]:
    """Run a search and return its progress; its journal is in `runs`."""
    folder = runs / name
    folder.mkdir()
    backend = JournalFileBackend(str(folder / JOURNAL))
    write_study(backend, spec(name, curves, seed, warm), curves.reference)
    journal = Journal(backend, folder)
    searcher = JournalSearcher(journal, curves.bounds, trials=10**6, evaluations=curves.evaluations)
    return simulate(searcher, Scheduler(searcher), curves, 2, TRIALS * curves.trial_cost)


def _cost(history: list[SimulatedProgress], hypervolume: float) -> float:
    return next((progress.cost for progress in history if progress.hypervolume >= hypervolume), math.inf)


if __name__ == "__main__":
    main()
