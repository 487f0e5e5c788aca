"""Trains LoRA with the ranks found on another task, at equal parameters.

    python -m benchmarks.real_tasks.rank_transfer --data GLUE --model MINILM --source mrpc --target sst2 \\
        --out ranks.jsonl

LoRA of rank 8 on all linear layers is trained on the source task and on the target task, and cut to a quarter of its
parameters. The ranks of the two slices are written as by `autorank ranks`. Then plain LoRA is trained on the target
task with other seeds: with the ranks of the source task, with those of the target task, and with rank 2 in every layer,
which has the same number of parameters. The table has the score after the last step and its difference from rank 2 with
the same seed, as mean ± standard deviation over the seeds. Runs in `--out` are not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from autorank.modeling import rank_map
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from benchmarks import json_lines
from benchmarks.real_tasks.learning_rates import spread

RANK, FINAL_RANK = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--data", type=Path, required=True, help="a directory with a directory for each task")
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--max-length", type=int, default=48)
    parser.add_argument("--eval-examples", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cache = ModelCache()
    maps = {task: ranks_of(arguments, cache, task) for task in (arguments.source, arguments.target)}
    variants = {"rank 2": None, **{f"ranks of {task}": ranks for task, ranks in maps.items()}}
    runs = {
        variant: [train(arguments, cache, arguments.target, seed, ranks) for seed in range(1, arguments.seeds + 1)]
        for variant, ranks in variants.items()
    }
    print(f"\n| {arguments.target} | parameters | score | difference from rank 2 |\n|---|---|---|---|")
    for variant, results in runs.items():
        scores = [run["score"] for run in results]
        differences = [
            run["score"] - reference["score"] for run, reference in zip(results, runs["rank 2"], strict=True)
        ]
        difference = "" if variant == "rank 2" else spread(differences)
        print(f"| {variant} | {results[0]['params']:,} | {spread(scores)} | {difference} |")


def ranks_of(arguments: argparse.Namespace, cache: ModelCache, task: str) -> dict[str, int]:
    """The ranks of a slice with a quarter of the parameters of LoRA trained on a task."""
    run = train(arguments, cache, task, 0, None, slices=7)
    ranks: dict[str, int] = min(run["slices"], key=lambda slice_: abs(slice_[0] / run["params"] - FINAL_RANK / RANK))[1]
    return ranks


def train(
    arguments: argparse.Namespace, cache: ModelCache, task: str, seed: int, ranks: dict[str, int] | None,
    slices: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Return the last score of a run and its slices; read from `--out` if the run is there."""
    values = {
        name: value for name, value in vars(arguments).items() if name not in ("out", "seeds", "source", "target")
    }
    key = json.dumps([{name: str(value) for name, value in values.items()}, task, seed, ranks, slices])
    for line in json_lines.read(arguments.out):
        if line["key"] == key:
            return line
    with tempfile.TemporaryDirectory() as scratch:
        settings: dict[str, Any] = {"targets": "all-linear", "learning_rate": arguments.learning_rate}
        settings["rank"] = RANK if slices else FINAL_RANK
        if ranks is not None:
            settings["retrain"] = str(Path(scratch) / "ranks.json")
            rank_map.write(Path(settings["retrain"]), ranks)
        spec = TrainSpec(
            task=TaskSpec(
                name=task, data=str(arguments.data / task), max_eval_examples=arguments.eval_examples,
                max_length=arguments.max_length,
            ),
            model=arguments.model, method="lora", settings=settings,
            training=TrainingSpec(
                steps=arguments.steps, eval_every=arguments.steps, batch_size=16, precision=arguments.precision,
                seed=seed, slices=slices or "off",
            ),
        )  # fmt: skip
        run = TrainingRun(spec, cache)
        (*_, last) = run
        run.release()
    result = {
        "key": key, "score": last.score, "params": last.adapter_params,
        "slices": [[slice_.adapter_params, slice_.ranks] for slice_ in last.slices],
    }  # fmt: skip
    json_lines.append(arguments.out, result)
    print(
        f"{task}, seed {seed}, {last.adapter_params:,} parameters: {last.score:.4f} in {last.seconds:.0f} s", flush=True
    )
    return result


if __name__ == "__main__":
    main()
