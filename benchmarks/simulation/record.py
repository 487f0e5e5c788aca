"""Records learning curves of real trials: the table that `benchmarks.simulation.simulator` replays.

    python -m benchmarks.simulation.record --data SST2 --model MINILM --method lora --set targets=all-linear \\
        --out sst2_lora.jsonl

Settings are drawn from the method's space by a scrambled Sobol sequence, each prefix of which covers the space evenly.
The table has one line per trial: its settings, the cost of an evaluation in training steps, and for each evaluation the
step, the score, the parameters and (parameters, score) of each slice. A trial that diverges is recorded with the
evaluations before. Trials in `--out` are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from optuna.samplers import QMCSampler
from optuna.study import create_study

from autorank import tasks
from autorank.errors import AutorankError
from autorank.searching.space import space as spaces
from autorank.spec import MethodSpec, TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from autorank.trials.distributions import distributions
from benchmarks import json_lines
from benchmarks.simulation.export_curves import curve_row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--method", default="lora-drop")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--evaluations", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--train-examples", type=int, default=960)
    parser.add_argument("--eval-examples", type=int, default=436)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--set", action="append", default=[], help="key=value: a fixed setting")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recorded = {json.dumps(line["drawn"]) for line in json_lines.read(arguments.out)}
    space = spaces.load(arguments.method, overrides=arguments.set)
    cache = ModelCache()
    entry = MethodSpec(method=arguments.method, settings=space.fixed, space=space.ranges)
    for settings in draw(entry, arguments.trials):
        if json.dumps(settings) not in recorded:
            line = {"method": arguments.method, "drawn": settings} | train(arguments, cache, space.fixed | settings)
            json_lines.append(arguments.out, line)


def draw(entry: MethodSpec, trials: int) -> list[dict[str, Any]]:
    """Draw the searched settings of `trials` trials, evenly spread."""
    study = create_study(sampler=QMCSampler(scramble=True, seed=0, warn_independent_sampling=False))
    ranges = distributions(entry)
    samples = []
    for _ in range(trials):
        trial = study.ask(ranges)
        study.tell(trial, 0.0)
        samples.append(dict(trial.params))
    return samples


def train(arguments: argparse.Namespace, cache: ModelCache, settings: dict[str, Any]) -> dict[str, Any]:
    """Train a trial; returns the cost of an evaluation and the curve, see `export_curves.curve_row`."""
    spec = TrainSpec(
        task=TaskSpec(
            name=arguments.task, data=arguments.data, max_train_examples=arguments.train_examples,
            max_eval_examples=arguments.eval_examples, max_length=arguments.max_length,
        ),
        model=arguments.model, method=arguments.method, settings=settings,
        training=TrainingSpec(
            steps=arguments.steps, eval_every=arguments.steps // arguments.evaluations,
            batch_size=arguments.batch_size, precision=arguments.precision, slices="auto",
        ),
    )  # fmt: skip
    run = TrainingRun(spec, cache)
    curve = []
    try:
        for evaluation in run:
            curve.append(curve_row(evaluation))
    except AutorankError as diverged:
        print(diverged, flush=True)
    data = cache.data(spec.task, tasks.base_model(spec.task, spec.model))
    cost = sum(map(len, data.validation.values())) / (3 * arguments.batch_size)
    run.release()
    print(f"{settings} {[score for _, score, *_ in curve]} {run._seconds:.0f} s", flush=True)
    return {"evaluation_cost": round(cost, 3), "curve": curve}


if __name__ == "__main__":
    main()
