"""Parameters and score of several methods, each with its own tuned learning rate and with new seeds.

    python -m benchmarks.real_tasks.scores --task mrpc --data MRPC --model MINILM --out scores.jsonl

All methods have their default settings, adapt all linear layers, and have the same mean rank. Learning rates are powers
of two times 1e-3: first 0, -1 and 1, then further ones until the best rate has a worse one on both sides. A rate is
rated by its last evaluation with seed 0; a run that diverges is worst. The table has the scores with the other seeds,
on the same validation split. Runs in `--out` are not run again.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from benchmarks import json_lines

MIDDLE = 1e-3
FARTHEST = 3  # largest power of two, up and down
METHODS = ("lora", "lora-drop", "prilora", "adalora", "increlora")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model_cache = ModelCache()
    rows = []
    for method in arguments.methods.split(","):
        rate = tune(lambda rate, method=method: last_score(train(arguments, model_cache, method, rate, seed=0)))
        runs = [train(arguments, model_cache, method, rate, seed) for seed in range(1, arguments.seeds + 1)]
        rows.append(row(method, rate, runs))
        print(rows[-1], flush=True)
    print("\n| method | learning rate | parameters | non-zero | last score | best score |\n|---|---|---|---|---|---|")
    print("\n".join(rows))


def tune(score: Callable[[float], float]) -> float:
    """Return the learning rate with the best score: powers of two times 1e-3 until both neighbors are worse."""
    scores: dict[int, float] = {}
    untried = [0, -1, 1]
    while untried:
        for power in untried:
            scores[power] = score(MIDDLE * 2.0**power)
        best = max(scores, key=lambda power: scores[power])
        untried = [p for p in (best - 1, best + 1) if p not in scores and abs(p) <= FARTHEST]
    return MIDDLE * 2.0**best


def last_score(evaluations: list[dict[str, Any]]) -> float:
    """The score of the last evaluation; minus infinity for a run that diverged."""
    return float(evaluations[-1]["score"]) if evaluations else -math.inf


def train(
    arguments: argparse.Namespace, model_cache: ModelCache, method: str, rate: float, seed: int
) -> list[dict[str, Any]]:
    """Return all evaluations of a run, none if it diverges; read from `--out` if the run is there."""
    rank = "rank" if method in ("lora", "lora-drop") else "mean_rank"
    spec = TrainSpec(
        task=TaskSpec(name=arguments.task, data=arguments.data),
        model=arguments.model,
        method=method,
        settings={"targets": "all-linear", rank: arguments.rank, "learning_rate": rate},
        training=TrainingSpec(epochs=arguments.epochs, seed=seed, precision=arguments.precision),
    )
    key = spec.model_dump_json()
    for line in json_lines.read(arguments.out):
        if line["spec"] == key:
            return list(line["evaluations"])
    run = TrainingRun(spec, model_cache)
    try:
        evaluations = [evaluation.to_dict() for evaluation in run]
    except AutorankError as error:
        print(error)
        evaluations = []
    run.release()
    json_lines.append(arguments.out, {"spec": key, "evaluations": evaluations})
    for last in evaluations[-1:]:
        print(f"{method} {rate:g} seed {seed}: {last['score']:.4f} with {last['adapter_params']:,} parameters in "
              f"{last['seconds']:.0f} s", flush=True)  # fmt: skip
    return evaluations


def row(method: str, rate: float, runs: list[list[dict[str, Any]]]) -> str:
    """A row of the table: means, and mean ± standard deviation of scores, over the seeds."""
    last = [run[-1] for run in runs]
    cells = [
        method, f"{rate:g}",
        *(f"{statistics.fmean(e[key] for e in last):,.0f}" for key in ("adapter_params", "nonzero_params")),
        *(spread(scores) for scores in ([e["score"] for e in last], [max(e["score"] for e in run) for run in runs])),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def spread(scores: list[float]) -> str:
    """Mean ± standard deviation, as text."""
    return f"{statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}"


if __name__ == "__main__":
    main()
