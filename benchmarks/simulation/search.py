"""Compares searches on recorded curves: the quality of the front over the cost of training.

    python -m benchmarks.simulation.search --curves benchmarks/curves/sst2_lora_drop.jsonl --plot search.png

Each contender searches the table (see `benchmarks.simulation.simulator`) once per seed, with the same number of workers
and the same budget. Budgets are training steps: evaluating V examples costs as much as training on V / 3 examples, for
each adapter and each slice.

- random: Ray's OptunaSearch with Optuna's random sampler, without early stopping.
- stock: Ray's OptunaSearch with its default sampler and two metrics, without early stopping, because none of Ray's
  schedulers supports two metrics.
- stock-all: the same search, with all evaluations as candidates for the front.
- nsga2-all: as stock-all, with Optuna's NSGA-II instead of TPE.
- moasha: Syne Tune's MO-ASHA (needs the package syne-tune; not among the defaults).
- tpe, gp: autorank's searcher with this sampler, its first settings, early stopping and the slices in the table.
- tpe-whole: as tpe, without early stopping.
- tpe-unsliced: as tpe, without slices.

Searches are compared by the hypervolume of their fronts, linear in parameters (up to the largest recorded number) and
in score (0 to 1). The fronts of stock and random consist of each trial's last result, as in Ray's results and Optuna's
study; those of stock-all, nsga2-all and moasha of all evaluations, those of autorank of all evaluations and slices. The
regret is the hypervolume of all recorded evaluations and slices minus that of the search. The table has its median over
the seeds, and the 10th and 90th percentiles. "As stock" is the share of the budget after which a contender's median
regret is no more than stock's at the end, likewise "as stock-all".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from optuna.samplers import NSGAIISampler, RandomSampler
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.spec import HalvingSpec, SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.distributions import distributions
from benchmarks.simulation.curves import Curves
from benchmarks.simulation.moasha import moasha
from benchmarks.simulation.simulator import memory_journal, quiet_optuna, simulate

STOCK = ("stock", "stock-all")
THIRD_PARTY = (*STOCK, "random", "nsga2-all", "moasha")  # not autorank's; without slices
CONTENDERS = (*STOCK, "random", "nsga2-all", "tpe-unsliced", "tpe-whole", "tpe", "gp")
TRIALS = 40  # the default budget, in complete trials
SHARES = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1)  # fractions of the budget: the columns of the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TRIALS, help="the budget, in complete trials without slices")
    parser.add_argument("--plot", type=Path, help="PNG file for a plot")
    parser.add_argument("--out", type=Path, help="JSON file for the regrets by contender, seed and budget")
    arguments = parser.parse_args()
    quiet_optuna()
    curves = Curves.read(arguments.curves)
    budgets = budget_grid(curves, arguments.trials)
    total = f"a budget of {budgets[-1]:.0f} steps"
    print(f"{len(curves.curves)} curves, {total}, attainable hypervolume {curves.attainable:.4f}\n")
    columns = ["contender", *(f"{share:.0%}" for share in SHARES), *(f"as {name}" for name in STOCK)]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    results: dict[str, np.ndarray] = {}
    names = arguments.contenders.split(",")
    for name in sorted(names, key=lambda name: name not in STOCK):
        seeds = range(arguments.seeds)
        results[name] = np.array([regrets(name, curves, seed, arguments.workers, budgets) for seed in seeds])
        print(row(name, results, budgets), flush=True)
    if arguments.out:
        table = {name: rows.round(6).tolist() for name, rows in results.items()}
        arguments.out.write_text(json.dumps({"costs": budgets.tolist(), "regrets": table}))
    if arguments.plot:
        plot(results, budgets, arguments.plot)


def budget_grid(curves: Curves, trials: int) -> np.ndarray:
    """Budgets at which searches are compared: one evaluation apart, up to `trials` complete trials without slices."""
    return np.linspace(0, trials * curves.trial_cost, trials * curves.evaluations + 1)


def regrets(name: str, curves: Curves, seed: int, workers: int, budgets: np.ndarray) -> np.ndarray:
    """The regret of a contender's search at each budget: `budgets`."""
    searcher, scheduler = contender(name, curves, seed)
    last, sliced = name in ("random", "stock"), name not in (*THIRD_PARTY, "tpe-unsliced")
    history = simulate(searcher, scheduler, curves, workers, float(budgets[-1]), last, sliced)
    indices = np.searchsorted([progress.cost for progress in history], budgets, side="right") - 1
    return curves.attainable - np.array([progress.hypervolume for progress in history])[indices]


def contender(name: str, curves: Curves, seed: int) -> tuple[Searcher, FIFOScheduler]:
    """The searcher and the scheduler of a contender, seeded."""
    if name == "moasha":
        return moasha(curves, seed)
    if name in THIRD_PARTY:
        samplers = {"random": RandomSampler, "nsga2-all": NSGAIISampler}
        sampling: dict[str, Any] = {"sampler": samplers[name](seed=seed)} if name in samplers else {"seed": seed}
        metrics: dict[str, Any] = {"metric": ["adapter_params", "score"], "mode": ["min", "max"]}
        return OptunaSearch(distributions(curves.entry), **metrics, **sampling), FIFOScheduler()
    sampler, _, variant = name.partition("-")
    halving = None if variant == "whole" else HalvingSpec()
    values: dict[str, Any] = {"name": name, "sampler": sampler, "halving": halving, "seed": seed}
    training = TrainingSpec(slices="off" if variant == "unsliced" else "auto")
    spec = SearchSpec(task=TaskSpec(name="recorded"), training=training, methods=(curves.entry,), **values)
    searcher = JournalSearcher(
        memory_journal(spec, curves.reference), curves.bounds, trials=10**6, evaluations=curves.evaluations
    )
    return searcher, Scheduler(searcher)


def cost_of(target: float, rows: np.ndarray, budgets: np.ndarray) -> float:
    """The share of the budget after which the median regret is no more than `target`; infinite if it never is."""
    reached = np.flatnonzero(np.median(rows, axis=0) <= target + 1e-12)
    return float(budgets[reached[0]] / budgets[-1]) if len(reached) else float("inf")


def row(name: str, results: Mapping[str, np.ndarray], budgets: np.ndarray) -> str:
    """A contender's row of the table."""
    columns = [np.searchsorted(budgets, share * budgets[-1], side="right") - 1 for share in SHARES]
    low, middle, high = np.percentile(results[name][:, columns], [10, 50, 90], axis=0)
    cells = [f"{m:.4f} ({a:.4f}–{b:.4f})" for a, m, b in zip(low, middle, high, strict=True)]
    targets = [float(np.median(results[stock][:, -1])) for stock in STOCK if stock in results]
    cells += [f"{cost_of(target, results[name], budgets):.2f}" for target in targets]
    return f"| {name} | " + " | ".join(cells) + " |"


def plot(results: Mapping[str, np.ndarray], budgets: np.ndarray, file: Path) -> None:
    """Plot regret over cost as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, rows in results.items():
        low, middle, high = np.percentile(rows, [10, 50, 90], axis=0)
        line = axes.plot(budgets, middle, label=name)[0]
        axes.fill_between(budgets, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel="cost of all trials, in training steps", ylabel="regret (hypervolume)", yscale="log")
    axes.set_title("Median over seeds, 10th to 90th percentile", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file)


if __name__ == "__main__":
    main()
