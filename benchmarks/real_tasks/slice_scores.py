"""Compares the scores by which slices keep components (energy, input, gradient) on real tasks.

    python -m benchmarks.real_tasks.slice_scores --data GLUE --model MINILM --out slice_scores.jsonl

GLUE has one directory per task. Plain LoRA is trained on all linear layers. Its adapter is then cut by each score to a
half, a quarter, ... of its parameters, and each slice is evaluated. `--out` receives one line per task and seed; those
in it are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean as mean
from typing import Any, get_args

from autorank.defaults import SliceScore
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from autorank.training.slicing.slice_scorer import SliceScorer
from benchmarks import json_lines

SCORES: tuple[SliceScore, ...] = get_args(SliceScore)
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--tasks", default="mrpc,sst2,stsb,cola")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--eval-examples", type=int, default=400)
    parser.add_argument("--halvings", type=int, default=8, help="the smallest slice has 1/2^N of the parameters")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    results = json_lines.read(arguments.out)
    cache = ModelCache()
    for seed in range(arguments.seeds):
        for task in arguments.tasks.split(","):
            if not any((result["task"], result["seed"]) == (task, seed) for result in results):
                results.append(compare(arguments, cache, task, seed))
                json_lines.append(arguments.out, results[-1])
    print(table(results), flush=True)


def compare(arguments: argparse.Namespace, cache: ModelCache, task: str, seed: int) -> Result:
    """Train one adapter and evaluate its slices; `slices` is size -> score of components -> score of the slice."""
    run = TrainingRun(
        TrainSpec(
            task=TaskSpec(
                name=task, data=arguments.data and arguments.data / task, max_eval_examples=arguments.eval_examples,
                max_train_examples=arguments.steps * arguments.batch_size,
            ),
            model=arguments.model, method="lora",
            settings={"targets": "all-linear", "rank": arguments.rank, "learning_rate": arguments.learning_rate},
            training=TrainingSpec(
                steps=arguments.steps, eval_every=arguments.steps, batch_size=arguments.batch_size, seed=seed,
                precision=arguments.precision,
            ),
        ),
        cache,
    )  # fmt: skip
    (evaluation,) = run
    print(f"{task}, seed {seed}: {evaluation.adapter_params:,} parameters, {evaluation.score:.4f}", flush=True)
    scorers = {kind: SliceScorer(run._base, run._loop, run._objective, run._data, "off", kind) for kind in SCORES}
    slices: dict[int, dict[str, float]] = {}
    for halving in range(1, arguments.halvings + 1):
        size = evaluation.adapter_params >> halving
        slices[size] = {kind: scorer.at(size)[0].score for kind, scorer in scorers.items()}
        print(f"  {size:>9,}  " + "  ".join(f"{kind} {score:.4f}" for kind, score in slices[size].items()), flush=True)
    run.release()
    return {
        "task": task, "seed": seed, "params": evaluation.adapter_params, "score": evaluation.score,
        "slices": {str(size): scores for size, scores in slices.items()},
    }  # fmt: skip


def table(results: list[Result]) -> str:
    """The mean scores over the seeds, one row per task and size, and the mean over all slices."""
    lines = ["| task | share of the parameters | " + " | ".join(SCORES) + " |", "|---|---|" + "---|" * len(SCORES)]
    slice_means: dict[str, list[float]] = {kind: [] for kind in SCORES}
    for task in dict.fromkeys(result["task"] for result in results):
        runs = [result for result in results if result["task"] == task]
        lines.append(
            f"| {task} | 1 | " + " | ".join([f"{mean(run['score'] for run in runs):.4f}"] * len(SCORES)) + " |"
        )
        for halving, rows in enumerate(zip(*(run["slices"].values() for run in runs), strict=True), 1):
            means = {kind: mean(row[kind] for row in rows) for kind in SCORES}
            for kind, value in means.items():
                slice_means[kind].append(value)
            lines.append(f"| {task} | 1/{2**halving} | " + " | ".join(f"{means[kind]:.4f}" for kind in SCORES) + " |")
    lines.append("| all slices | | " + " | ".join(f"{mean(slice_means[kind]):.4f}" for kind in SCORES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
