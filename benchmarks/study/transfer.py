"""A first trial with a method's defaults against one with its best settings on another task of the study.

    OMP_NUM_THREADS=1 python -m benchmarks.study.transfer --earlier stsb --task sst2 --model MINILM --data GLUE \\
        --precision bf16 --out transfer.jsonl

The defaults are those of the search's first trial. The scores are the best evaluations on held-out training examples,
with one seed. Trainings in `--out` are not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from autorank.trials.record import TrialRecord
from benchmarks import json_lines
from benchmarks.study.results import read
from benchmarks.study.settings import all_methods, search_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("study"), help="directory of the study's searches")
    parser.add_argument("--earlier", required=True, help="task whose best settings are used")
    parser.add_argument("--task", required=True)
    parser.add_argument("--methods", default=",".join(all_methods()))
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="a directory with a directory for each task")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cache = ModelCache()
    print("| method | defaults | parameters | best settings | parameters |\n|---|---|---|---|---|")
    for method in arguments.methods.split(","):
        search = read(arguments.runs, arguments.earlier, method)
        if search is not None and search.ended:
            trials = search.snapshot.trials
            cells = [train(arguments, cache, method, trial) for trial in (trials[0], max(trials, key=score))]
            row = " | ".join(f"{cell['score']:.4f} | {cell['params']:,}" for cell in cells)
            print(f"| `{method}` | {row} |", flush=True)


def score(trial: TrialRecord) -> float:
    """The best score of a trial."""
    return max((evaluation.score for evaluation in trial.evaluations), default=float("-inf"))


def train(arguments: argparse.Namespace, cache: ModelCache, method: str, trial: TrialRecord) -> dict[str, Any]:
    """Score and parameters of a training with the settings of a trial."""
    key = {"task": arguments.task, "earlier": arguments.earlier, "method": method, "trial": trial.number}
    for line in json_lines.read(arguments.out):
        if key.items() <= line.items():
            return line
    spec = search_spec(arguments.task, method, arguments.model, arguments.data, arguments.precision)
    run = TrainingRun(spec.train(method, trial.settings), cache)
    best = max(run, key=lambda evaluation: evaluation.score)
    run.release()
    result = key | {"score": best.score, "params": best.adapter_params}
    json_lines.append(arguments.out, result)
    return result


if __name__ == "__main__":
    main()
