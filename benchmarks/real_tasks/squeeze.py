"""Compares LoRA-Squeeze with LoRA of the final rank, and with LoRA of the source rank that is cut after training.

    python -m benchmarks.real_tasks.squeeze --data GLUE --model MINILM --out squeeze.jsonl

GLUE has the directories `mrpc`, `qqp` and `sst2`; parts of QQP and SST-2 are used (see PARTS). All contenders have as
many parameters at the end as LoRA of `--rank`; they adapt all linear layers, and all updates have the scale 2. The
learning rate of each is tuned by the last score with seed 0 (`benchmarks.real_tasks.learning_rates`). The table has the
scores with all seeds, including 0, at the best rate. LoRA that is cut after training is its largest slice within the
budget; the uncut adapter is shown for comparison. Runs in `--out` are not run again.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.methods import configure, find
from autorank.modeling.base_model import meta_model
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from benchmarks import json_lines
from benchmarks.real_tasks.learning_rates import spread, tune

SCALE = 2
LAST_ONLY = 10**6  # steps between evaluations
PARTS: dict[str, dict[str, int]] = {  # QQP's and SST-2's training parts are as large as RTE
    "mrpc": {},
    "qqp": {"max_train_examples": 2490, "max_eval_examples": 1000},
    "sst2": {"max_train_examples": 2490},
}
Result = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        label: Name of the row.
        method: The trained method.
        settings: Its settings.
        sliced: Whether the score is that of the largest slice within the budget.
    """

    label: str
    method: str
    settings: dict[str, Any]
    sliced: bool = False

    def read(self, result: Result) -> tuple[float, int]:
        """Return score and parameters."""
        prefix = "slice_" if self.sliced else ""
        return result[f"{prefix}score"], result[f"{prefix}params"]


def contenders(rank: int, source: int) -> list[Contender]:
    """All contenders; those with equal trainings share runs."""
    low_rank, high_rank = ({"rank": r, "alpha": SCALE * r} for r in (rank, source))
    squeeze = {"mean_rank": rank, "source_rank": source, "alpha": SCALE * source}
    return [
        Contender(f"LoRA, rank {rank}", "lora", low_rank),
        Contender(f"LoRA, rank {source}, cut afterwards", "lora", high_rank, sliced=True),
        Contender(f"LoRA-Squeeze from rank {source}", "lora-squeeze", squeeze),
        Contender(f"LoRA, rank {source}", "lora", high_rank),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tasks", default=",".join(PARTS))
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--source-rank", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = {"rank": arguments.rank, "targets": "all-linear"}
    config = configure("lora", settings).config
    budget, _ = find("lora").adapter_params(config, meta_model(arguments.model, outputs=2))
    cache = ModelCache()
    for task in arguments.tasks.split(","):
        print(f"\n{task}, {budget:,} parameters", flush=True)
        rows = [
            row(contender, arguments, lambda spec: train(spec, budget, cache, arguments.out), task)
            for contender in contenders(arguments.rank, arguments.source_rank)
        ]
        print(f"\n| {task} | learning rate | parameters | score | seeds |\n|---|---|---|---|---|")
        print("\n".join(rows), flush=True)


def row(contender: Contender, arguments: argparse.Namespace, run: Callable[[TrainSpec], Result], task: str) -> str:
    """Tune the learning rate, run all seeds and return a row of the table."""
    task_spec = TaskSpec(name=task, data=arguments.data / task, **PARTS[task])  # type: ignore[arg-type]

    def run_seed(rate: float, seed: int) -> tuple[float, int]:
        spec = TrainSpec(
            task=task_spec, model=arguments.model, method=contender.method,
            settings={"targets": "all-linear", "learning_rate": rate, **contender.settings},
            training=TrainingSpec(
                epochs=arguments.epochs, seed=seed, precision=arguments.precision, eval_every=LAST_ONLY
            ),
        )  # fmt: skip
        return contender.read(run(spec))

    best = tune(lambda rate: run_seed(rate, 0)[0])
    scores, params = zip(*(run_seed(best, seed) for seed in range(arguments.seeds)), strict=True)
    cells = [
        contender.label, f"{best:g}", f"{statistics.fmean(params):,.0f}",
        spread(list(scores)), ", ".join(f"{score:.4f}" for score in scores),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def train(spec: TrainSpec, budget: int, cache: ModelCache, out: Path) -> Result:
    """Return the last score of a run and that of its slice within the budget; read from `out` if they are there."""
    key = spec.model_dump_json()
    for line in json_lines.read(out):
        if line["spec"] == key and line["budget"] == budget:
            return line
    run = TrainingRun(spec, cache)
    result: Result = {"spec": key, "budget": budget, "score": -math.inf, "slice_score": -math.inf}
    result |= {"params": 0, "slice_params": 0}
    try:
        last = list(run)[-1]
        fitting = last if last.adapter_params <= budget else run.with_slices(last, [budget]).slices[0]
        result |= {"score": last.score, "params": last.adapter_params, "seconds": round(last.seconds)}
        result |= {"slice_score": fitting.score, "slice_params": fitting.adapter_params}
    except AutorankError as diverged:
        print(diverged, flush=True)
    run.release()
    json_lines.append(out, result)
    values = {key: value for key, value in result.items() if key != "spec"}
    print(f"{spec.method} {spec.settings} seed {spec.training.seed}: {values}", flush=True)
    return result


if __name__ == "__main__":
    main()
