"""Records how real trials learn: the table that `benchmarks.simulation.simulator` replays.

    python benchmarks/record.py --data SST2 --model MINILM --method lora --set targets=all-linear --out sst2.jsonl

Trials are drawn from a method's own space by a scrambled Sobol sequence, so that any prefix of it covers the space
evenly. A line per trial: its settings, what an evaluation costs in training steps, and for each evaluation the step,
the score, the parameters and (parameters, score) of each slice. Trials in `--out` are not run again; a trial that
diverges is recorded with the evaluations it has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import QMCSampler
from optuna.study import create_study
from optuna.trial import FixedTrial

from autorank import tasks
from autorank.errors import AutorankError
from autorank.searching.space import space as spaces
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun


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
    parser.add_argument("--set", action="append", default=[], help="key=value: a setting that is not searched")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    known = {json.dumps(line["drawn"]) for line in read(arguments.out)}
    space = spaces.load(arguments.method, overrides=arguments.set)
    cache = ModelCache()
    for drawn in draw(space.ranges, arguments.trials):
        if json.dumps(drawn) not in known:
            line = {"method": arguments.method, "drawn": drawn} | train(arguments, cache, space.fixed | drawn)
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """What is recorded already."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def draw(ranges: dict[str, dict[str, Any]], trials: int) -> list[dict[str, Any]]:
    """Settings from a space's ranges, evenly spread: `trials` of them."""
    study = create_study(sampler=QMCSampler(scramble=True, seed=0, warn_independent_sampling=False))
    distributions: dict[str, BaseDistribution] = {}
    for name, entry in ranges.items():  # a fixed trial tells the distribution that `suggest` asks for
        fixed = FixedTrial({name: entry["choices"][0] if "choices" in entry else entry["low"]})
        spaces.suggest({name: entry}, fixed)  # type: ignore[arg-type]
        distributions |= fixed.distributions
    drawn = []
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, 0.0)
        drawn.append(dict(trial.params))
    return drawn


def train(arguments: argparse.Namespace, cache: ModelCache, settings: dict[str, Any]) -> dict[str, Any]:
    """The cost of an evaluation and the curve of a trial: [step, score, parameters, slices] of each evaluation."""
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
            slices = [[piece.adapter_params, round(piece.score, 6)] for piece in evaluation.slices]
            curve.append([evaluation.step, round(evaluation.score, 6), evaluation.adapter_params, slices])
    except AutorankError as diverged:
        print(diverged, flush=True)
    data = cache.data(spec.task, tasks.base_model(spec.task, spec.model))
    cost = sum(map(len, data.validation.values())) / (3 * arguments.batch_size)
    run.release()
    print(f"{settings} {[score for _, score, *_ in curve]} {run._seconds:.0f} s", flush=True)
    return {"evaluation_cost": round(cost, 3), "curve": curve}


if __name__ == "__main__":
    main()
