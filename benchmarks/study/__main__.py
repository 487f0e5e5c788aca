"""A study of all methods: one search per task and method, new seeds for each front, and tables of what methods add.

    OMP_NUM_THREADS=1 python -m benchmarks.study --model MINILM --pairs-model BASE --data GLUE --minutes 50 \\
        --report docs/results.md

Each method is searched alone, with the same number of trials as plain LoRA. In one search of all methods, trials go to
methods that do well, so the others would have smaller budgets, and a failure would end all. Plain LoRA is searched
twice: the second search shows what another search adds without another method.

`--data` has one directory per task. BASE is made by `benchmarks.real_tasks.pairs_model`: MRPC and STS-B begin with it.
The program stops after `--minutes` or with Ctrl-C; the same command continues, in the middle of a trial if necessary.
It prints each trial and each new seed as it ends, and the tables at the end.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import get_args

from autorank.defaults import Precision
from autorank.errors import AutorankError
from autorank.searching.budget import Budget
from autorank.searching.search import search
from autorank.trials.retention import search_folder
from autorank.trials.snapshot import Snapshot
from benchmarks.study import catalogue, report
from benchmarks.study.results import read
from benchmarks.study.settings import BASELINE, PAIRS, REPEATED_BASELINE, SEEDS, TASKS, all_methods, search_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(name for name in TASKS if name != "demo"))
    parser.add_argument("--methods", default=",".join(all_methods()), help="besides plain LoRA")
    parser.add_argument("--model", help="base model")
    parser.add_argument("--pairs-model", help="base model of MRPC and STS-B; default: --model")
    parser.add_argument("--data", type=Path, help="a directory with a directory for each task; default: the Hub")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--trials", type=int, default=6, help="of each search")
    parser.add_argument("--concurrency", type=int, help="trials at the same time")
    parser.add_argument("--minutes", type=float, help="stop after this time; default: when all is done")
    parser.add_argument("--runs", type=Path, default=Path("study"), help="directory of the searches")
    parser.add_argument("--report", type=Path, help="a page whose sections on the tasks are replaced")
    parser.add_argument("--catalogue", type=Path, help="a file whose best settings of the tasks are replaced")
    arguments = parser.parse_args()
    deadline = float("inf") if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    tasks, methods = (
        arguments.tasks.split(","),
        [BASELINE, REPEATED_BASELINE, *filter(None, arguments.methods.split(","))],
    )
    for task, method in 2 * [(task, method) for task in tasks for method in methods]:  # what failed is tried once more
        if time.monotonic() >= deadline or run(arguments, task, method, deadline) == "interrupted":
            break
    for task in tasks:
        results = [result for method in methods if (result := read(arguments.runs, task, method))]
        complete = [result for result in results if result.is_complete(arguments.trials)]
        if results:
            section = report.render(task, results, command(arguments, task), arguments.trials)
            print(f"\n{section}")
            if arguments.report:
                report.write(arguments.report, task, section)
        if complete and arguments.catalogue:
            catalogue.write(arguments.catalogue, complete)


def command(arguments: argparse.Namespace, task: str) -> str:
    """The command that repeats the study of a task."""
    line = f"python -m benchmarks.study --tasks {task} --trials {arguments.trials}"
    line += " --model MODEL --data DATA" if arguments.model else ""
    line += " --pairs-model BASE" if arguments.pairs_model and task in PAIRS else ""
    line += f" --precision {arguments.precision}" if arguments.precision != "auto" else ""
    line += f" --concurrency {arguments.concurrency}" if arguments.concurrency else ""
    if arguments.methods != ",".join(all_methods()):
        line += f" --methods {shlex.quote(arguments.methods)}"
    return line


def run(arguments: argparse.Namespace, task: str, method: str, deadline: float) -> str | None:
    """Run or continue one search until `deadline` (`time.monotonic`); return why it ended, None if it did not run."""
    previous = read(arguments.runs, task, method)
    if previous is not None and previous.is_complete(arguments.trials):
        return None
    model = arguments.pairs_model if task in PAIRS and arguments.pairs_model else arguments.model
    spec = search_spec(task, method, model, arguments.data, arguments.precision)
    seconds = None if deadline == float("inf") else deadline - time.monotonic()
    budget = Budget(arguments.trials, seconds=seconds, confirm=SEEDS, concurrency=arguments.concurrency)
    try:
        outcome = search(spec, search_folder(arguments.runs, spec.name), budget, progress=Log(spec.name), warn=print)
    except AutorankError as error:
        print(f"{spec.name}: {error}", flush=True)
        return None
    return outcome.ending


class Log:
    """Prints trials and new seeds of a search as they end.

    Args:
        name: The search.
    """

    def __init__(self, name: str) -> None:
        self._name, self._trials, self._seeds = name, set[int](), 0

    def __call__(self, snapshot: Snapshot) -> None:
        """Print what has ended since the last snapshot."""
        for trial in snapshot.trials:
            if not trial.is_running and trial.number not in self._trials:
                self._trials.add(trial.number)
                scores = [evaluation.score for evaluation in trial.evaluations]
                best = f"best {max(scores):.4f}" if scores else trial.reason
                print(
                    f"{self._name}: trial {trial.number} {trial.state} after {trial.seconds:.0f} s, {best}", flush=True
                )
        if len(snapshot.confirmed) > self._seeds:
            self._seeds = len(snapshot.confirmed)
            print(f"{self._name}: {self._seeds} new scores of {len(snapshot.points)} points", flush=True)


if __name__ == "__main__":
    main()
