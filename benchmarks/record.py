"""Records how real trials learn: the table that `benchmarks.simulation.simulator` replays.

    python benchmarks/record.py --data SST2 --model MINILM --out benchmarks/curves/sst2.jsonl

Trials are drawn from a method's own space by a scrambled Sobol sequence, so that any prefix of it covers the space
evenly. A line a trial: its settings and, for each evaluation, step, score and parameters. Trials in `--out` are not
run again; a trial that diverges is recorded with the evaluations it has.
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
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    known = {json.dumps(line["drawn"]) for line in read(arguments.out)}
    workshop = ModelCache()
    for drawn in draw(arguments.method, arguments.trials):
        if json.dumps(drawn) not in known:
            line = {"method": arguments.method, "drawn": drawn, "curve": train(arguments, workshop, drawn)}
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """What is recorded already."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def draw(method: str, trials: int) -> list[dict[str, Any]]:
    """Settings from the method's space, evenly spread: `trials` of them."""
    ranges = spaces.load(method).ranges
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


def train(arguments: argparse.Namespace, workshop: ModelCache, drawn: dict[str, Any]) -> list[list[float]]:
    """[step, score, parameters] of each evaluation."""
    spec = TrainSpec(
        task=TaskSpec(
            name=arguments.task, data=arguments.data, max_train_examples=arguments.train_examples,
            max_eval_examples=arguments.eval_examples,
        ),
        model=arguments.model, method=arguments.method,
        settings=spaces.load(arguments.method).fixed | {"targets": "query,value"} | drawn,
        training=TrainingSpec(
            steps=arguments.steps, eval_every=arguments.steps // arguments.evaluations,
            batch_size=arguments.batch_size, precision=arguments.precision,
        ),
    )  # fmt: skip
    run = TrainingRun(spec, workshop)
    curve = []
    try:
        for evaluation in run:
            curve.append([evaluation.step, round(evaluation.score, 6), evaluation.adapter_params])
    except AutorankError as diverged:
        print(diverged, flush=True)
    run.release()
    print(f"{drawn} {[score for _, score, _ in curve]} {run._seconds:.0f} s", flush=True)
    return curve


if __name__ == "__main__":
    main()
