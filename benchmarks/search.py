"""Searches compared on recorded curves: how good a front is found with how much training.

    python benchmarks/search.py --curves benchmarks/curves/sst2.jsonl --plot search.png --out search.json

Every contender searches the table (see `benchmarks.simulation.simulator`) once a seed, with as many workers and the
same budget. Budgets are counted in training steps: evaluating V examples costs as much as training on V / 3 of them,
and so does each slice.

- random: Ray's OptunaSearch with Optuna's random sampler; every trial is trained to its end.
- stock: Ray's OptunaSearch as it comes, with two metrics; every trial is trained to its end, as none of Ray's
  schedulers takes two metrics.
- stock-all: the same search, as if it had kept every evaluation.
- nsga2-all: the same with Optuna's NSGA-II in place of its TPE.
- moasha: Syne Tune's MO-ASHA, which counts every evaluation (needs the package syne-tune; not among the default ones).
- tpe, gp: autorank's searcher with this sampler, its first settings, its early stopping and the slices in the table.
- tpe-whole: the same without early stopping.
- tpe-unsliced: the same as tpe, without slices.

The measure is the hypervolume of a search's front, linear in parameters (up to the most recorded) and in score (0 to
1). The front of stock and random is what Ray's results and Optuna's study hold, each trial's last result; that of
stock-all, nsga2-all and moasha is of every evaluation, and ours of every evaluation and slice. No search can have more
than the front of all recorded evaluations and slices. The table has what a search lacks of it: the median over the
seeds, and the 10th and 90th percentiles. "As stock" is the share of the budget after which a contender's median is
where stock's is at the end, likewise "as stock-all".
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler, RandomSampler
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.scheduler import Scheduler
from autorank.searching.sampling.optuna_study import distributions
from autorank.spec import HalvingSpec, SearchSpec, TaskSpec, TrainingSpec
from benchmarks.simulation.curves import Curves
from benchmarks.simulation.moasha import moasha
from benchmarks.simulation.simulator import journal, simulate

STOCK = ("stock", "stock-all")
OTHERS = (*STOCK, "random", "nsga2-all", "moasha")  # without slices
CONTENDERS = (*STOCK, "random", "nsga2-all", "tpe-unsliced", "tpe-whole", "tpe", "gp")
TRIALS = 40  # trained to their ends: the budget
SHARES = (1 / 8, 1 / 4, 1 / 3, 1 / 2, 1)  # of the budget, in the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TRIALS, help="the budget: whole trials without slices")
    parser.add_argument("--plot", type=Path, help="a PNG")
    parser.add_argument("--out", type=Path, help="JSON: regrets by contender, seed and budget")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Optuna's, of what is experimental
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curves = Curves.read(arguments.curves)
    budgets = grid(curves, arguments.trials)
    total = f"a budget of {budgets[-1]:.0f} steps"
    print(f"{len(curves.curves)} curves, {total}, attainable hypervolume {curves.attainable:.4f}\n")
    columns = ["contender", *(f"{share:.0%}" for share in SHARES), *(f"as {name}" for name in STOCK)]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    found: dict[str, np.ndarray] = {}
    names = arguments.contenders.split(",")
    for name in sorted(names, key=lambda name: name not in STOCK):
        seeds = range(arguments.seeds)
        found[name] = np.array([regrets(name, curves, seed, arguments.workers, budgets) for seed in seeds])
        print(row(name, found, budgets), flush=True)
    if arguments.out:
        table = {name: rows.round(6).tolist() for name, rows in found.items()}
        arguments.out.write_text(json.dumps({"costs": budgets.tolist(), "regrets": table}))
    if arguments.plot:
        plot(found, budgets, arguments.plot)


def grid(curves: Curves, trials: int) -> np.ndarray:
    """The budgets at which searches are compared, as far apart as evaluations are.

    The last one is that of so many whole trials without slices.
    """
    evaluations = max(map(len, curves.curves))
    return np.linspace(0, trials * curves.trial_cost, trials * evaluations + 1)


def regrets(name: str, curves: Curves, seed: int, workers: int, budgets: np.ndarray) -> np.ndarray:
    """What a contender's search lacks of the attainable hypervolume at each budget."""
    searcher, scheduler = contender(name, curves, seed)
    last, sliced = name in ("random", "stock"), name not in (*OTHERS, "tpe-unsliced")
    history = simulate(searcher, scheduler, curves, workers, float(budgets[-1]), last, sliced)
    at = np.searchsorted([progress.cost for progress in history], budgets, side="right") - 1
    return curves.attainable - np.array([progress.hypervolume for progress in history])[at]


def contender(name: str, curves: Curves, seed: int) -> tuple[Searcher, FIFOScheduler]:
    """Its searcher and its scheduler."""
    if name == "moasha":
        return moasha(curves, seed)
    if name in OTHERS:
        samplers = {"random": RandomSampler, "nsga2-all": NSGAIISampler}
        chosen: dict[str, Any] = {"sampler": samplers[name](seed=seed)} if name in samplers else {"seed": seed}
        metrics: dict[str, Any] = {"metric": ["adapter_params", "score"], "mode": ["min", "max"]}
        return OptunaSearch(distributions(curves.entry), **metrics, **chosen), FIFOScheduler()
    sampler, _, variant = name.partition("-")
    halving = None if variant == "whole" else HalvingSpec()
    values: dict[str, Any] = {"name": name, "sampler": sampler, "halving": halving, "seed": seed}
    training = TrainingSpec(slices="off" if variant == "unsliced" else "auto")
    spec = SearchSpec(task=TaskSpec(name="recorded"), training=training, methods=(curves.entry,), **values)
    there, length = journal(spec, curves.reference), max(map(len, curves.curves))
    ours = JournalSearcher(there, curves.bounds, trials=10**6, evaluations=length)
    return ours, Scheduler(ours)


def cost_of(target: float, rows: np.ndarray, budgets: np.ndarray) -> float:
    """The share of the budget after which the median regret is no more than `target`; infinite if it never is."""
    there = np.flatnonzero(np.median(rows, axis=0) <= target + 1e-12)
    return float(budgets[there[0]] / budgets[-1]) if len(there) else float("inf")


def row(name: str, found: Mapping[str, np.ndarray], budgets: np.ndarray) -> str:
    """A contender's line of the table."""
    columns = [np.searchsorted(budgets, share * budgets[-1], side="right") - 1 for share in SHARES]
    low, middle, high = np.percentile(found[name][:, columns], [10, 50, 90], axis=0)
    cells = [f"{m:.4f} ({a:.4f}–{b:.4f})" for a, m, b in zip(low, middle, high, strict=True)]
    goals = [float(np.median(found[stock][:, -1])) for stock in STOCK if stock in found]
    cells += [f"{cost_of(goal, found[name], budgets):.2f}" for goal in goals]
    return f"| {name} | " + " | ".join(cells) + " |"


def plot(found: Mapping[str, np.ndarray], budgets: np.ndarray, file: Path) -> None:
    """Regret over training steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, rows in found.items():
        low, middle, high = np.percentile(rows, [10, 50, 90], axis=0)
        line = axes.plot(budgets, middle, label=name)[0]
        axes.fill_between(budgets, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel="cost of all trials, in training steps", ylabel="hypervolume that is missing", yscale="log")
    axes.set_title("Median of the searches, 10th to 90th percentile", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file)


if __name__ == "__main__":
    main()
