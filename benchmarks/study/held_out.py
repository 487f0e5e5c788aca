"""Searches that begin with the catalogue's settings of other tasks, on a task of the study.

    OMP_NUM_THREADS=1 python -m benchmarks.study.held_out --task qqp --model MINILM --data GLUE --precision bf16 \\
        --concurrency 1 --runs study --warm held_out

For each method with a complete search in `--runs`, which began with the method's defaults, a search with the same seed
begins with the catalogue's setting and runs until it has `--share` of the final hypervolume of the other. The table has
the cost of both until then, in complete trials. The same command continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autorank import tasks
from autorank.searching.budget import Budget
from autorank.searching.sampling import catalogue
from autorank.searching.search import search
from autorank.searching.space.param_bounds import ParamBounds
from autorank.trials.front import front, hypervolume
from autorank.trials.journal.journal import Journal
from autorank.trials.journal.journal_file import JOURNAL
from autorank.trials.record import TrialRecord, ended_trials
from autorank.trials.retention import search_folder
from benchmarks.study.results import read
from benchmarks.study.settings import all_methods, search_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--methods", default=",".join(["lora", *all_methods()]))
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="a directory with a directory for each task")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--trials", type=int, default=8, help="of each search")
    parser.add_argument("--concurrency", type=int, help="trials at the same time")
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--runs", type=Path, required=True, help="directory of the study's searches")
    parser.add_argument("--warm", type=Path, required=True, help="directory of the searches that begin warm")
    arguments = parser.parse_args()
    print("| method | first settings | cold | warm |\n|---|---|---|---|")
    for method in arguments.methods.split(","):
        cold = read(arguments.runs, arguments.task, method)
        if cold is not None and cold.is_complete(arguments.trials):
            trials, max_params = cold.snapshot.trials, cold.max_params
            target = arguments.share * hypervolume(front(trials), (max_params, 0.0))
            warm_trials, source = run_warm_search(arguments, method, max_params, target)
            costs = [
                cost(search_trials, max_params, target, cold.spec.training.steps or 1)
                for search_trials in (trials, warm_trials)
            ]
            cells = ["not reached" if value is None else f"{value:.2f}" for value in costs]
            print(f"| `{method}` | {source} | {' | '.join(cells)} |", flush=True)


def run_warm_search(
    arguments: argparse.Namespace, method: str, max_params: float, target: float
) -> tuple[list[TrialRecord], str]:
    """Run a search, one trial after the other, until it has a hypervolume.

    Args:
        arguments: Those of the program.
        method: The method.
        max_params: The most adapter parameters of the space.
        target: The hypervolume.

    Returns:
        The trials, and the task of the first settings; empty if the catalogue has none.
    """
    spec = search_spec(arguments.task, method, arguments.model, arguments.data, arguments.precision)
    data, bounds = tasks.load(spec.task, tasks.base_model(spec.task, spec.model)), ParamBounds(spec.task, spec.model)
    others = [search for search in catalogue.catalogue_entries() if search.task != arguments.task]
    spec = spec.model_copy(update={"warm_start": catalogue.first_trials(spec, data, bounds, others)})
    folder = search_folder(arguments.warm, spec.name)
    journal = Journal.open(folder) if (folder / JOURNAL).exists() else None
    while journal is None or _unfinished(journal.trials(), arguments.trials, max_params, target):
        ended = 0 if journal is None else len(ended_trials(journal.trials()))
        search(spec, folder, Budget(ended + 1, concurrency=arguments.concurrency))
        journal = Journal.open(folder)
    return journal.trials(), ", ".join(trial.search for trial in journal.spec.warm_start)


def _unfinished(trials: list[TrialRecord], max_trials: int, max_params: float, target: float) -> bool:
    return len(ended_trials(trials)) < max_trials and hypervolume(front(trials), (max_params, 0.0)) < target


def cost(trials: list[TrialRecord], max_params: float, target: float, steps: int) -> float | None:
    """Cost of trials until their front has a hypervolume.

    Args:
        trials: The trials of a search, by number.
        max_params: Parameters at the end of the box of the hypervolume.
        target: The hypervolume.
        steps: Optimizer steps of a complete trial.

    Returns:
        The cost in complete trials; None if they do not reach it.
    """
    for count in range(1, len(trials) + 1):
        if hypervolume(front(trials[:count]), (max_params, 0.0)) >= target:
            return sum(trial.step for trial in trials[:count]) / steps
    return None


if __name__ == "__main__":
    main()
