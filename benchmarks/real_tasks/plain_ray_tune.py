"""Compares three implementations of one real search by the wall time to the same hypervolume.

    python -m benchmarks.real_tasks.plain_ray_tune --data MRPC --model MINILM --out naive.jsonl

naive   Ray Tune with OptunaSearch and one Ray Train TorchTrainer per trial, as in Ray's documentation
warm    the same search over `autorank.tune_trainable` with `reuse_actors`: warm actors, no early stopping
ours    `autorank search` with slices, journal, MLflow, early stopping and the baseline

All three use the same training loop and space, and run as many trials at once as there are CPUs. They run one after
the other. Hypervolume is computed over all evaluations so far (for ours also slices, but not the baseline's points),
with the space's largest adapter and score 0 as reference point. Times include the start of Ray. The table has the time
at which each implementation reaches the final hypervolume of the naive one. Results in `--out` are reused.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import autorank
from autorank.searching.budget import Budget
from autorank.searching.create import make_spec
from autorank.searching.ray.cluster import connection
from autorank.searching.search import search as autorank_search
from autorank.searching.space import space as spaces
from autorank.searching.space.param_bounds import ParamBounds, parameter_range
from autorank.spec import SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.distributions import distributions
from autorank.trials.front import hypervolume, non_dominated
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot
from benchmarks import json_lines

Record = Callable[[int, float], None]  # called with adapter parameters and score of each evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", default="lora-drop")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--eval-every", type=int, default=8, help="steps")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", action="append", default=[], help="key=value: a fixed setting")
    parser.add_argument("--variants", default="ours,warm,naive")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    task = TaskSpec(
        name=arguments.task, data=arguments.data.absolute(), max_train_examples=arguments.examples,
        max_length=arguments.max_length,
    )  # fmt: skip
    training = TrainingSpec(epochs=arguments.epochs, eval_every=arguments.eval_every, precision=arguments.precision)
    space = spaces.load_all([arguments.method], overrides=arguments.set)
    spec = make_spec(space, task, arguments.model, training, name="benchmark")
    results = {line["variant"]: line for line in json_lines.read(arguments.out)}
    for variant in arguments.variants.split(","):
        if variant not in results:
            results[variant] = run(variant, spec, arguments.trials)
            json_lines.append(arguments.out, results[variant])
    if "naive" in results:
        report(results, spec)


def run(variant: str, spec: SearchSpec, trials: int) -> dict[str, Any]:
    """Run a search; `evaluations` are (seconds since its start, parameters, score)."""
    evaluations: list[tuple[float, int, float]] = []
    started = time.monotonic()

    def record(params: int, score: float) -> None:
        evaluations.append((time.monotonic() - started, params, score))

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        os.environ["AUTORANK_CACHE"] = cache  # variants share no tokenized data and no probes
        {"naive": run_naive, "warm": run_warm, "ours": run_autorank}[variant](spec, trials, Path(folder), record)
    return {"variant": variant, "seconds": time.monotonic() - started, "evaluations": evaluations}


def run_autorank(spec: SearchSpec, trials: int, folder: Path, record: Record) -> None:
    """Run `autorank search`."""
    recorded: set[tuple[int, int]] = set()

    def progress(snapshot: Snapshot) -> None:
        for trial in snapshot.trials:
            for evaluation in () if trial.baseline else trial.evaluations:
                if (trial.number, evaluation.step) not in recorded:
                    recorded.add((trial.number, evaluation.step))
                    for point in (evaluation, *evaluation.slices):
                        record(point.adapter_params, point.score)

    training = spec.training.model_copy(update={"slices": "auto"})
    spec = spec.model_copy(update={"training": training})
    autorank_search(spec, folder / spec.name, Budget(trials), f"sqlite:///{folder / 'mlflow.db'}", progress)


def options(spec: SearchSpec) -> dict[str, Any]:
    """The options of `train_loop` and `tune_trainable` for the trials of a search."""
    (entry,) = spec.methods
    task = {"data": spec.task.data, "max_train_examples": spec.task.max_train_examples}
    training = {name: value for name, value in spec.training.model_dump().items() if value is not None}
    return {"method": entry.method, "task": spec.task.name, "model": spec.model, **task, **training, **entry.settings}


def optuna_search(spec: SearchSpec) -> Any:
    """Ray's OptunaSearch with its default sampler, over the method's space."""
    from ray.tune.search.optuna import OptunaSearch

    (entry,) = spec.methods
    return OptunaSearch(distributions(entry), metric=["adapter_params", "score"], mode=["min", "max"], seed=spec.seed)


def fit(trainable: Any, spec: SearchSpec, trials: int, folder: Path, record: Record, warm: bool) -> None:
    """Run Tune over a trainable; `warm` reuses actors."""
    from ray import tune

    class RecordResults(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            record(result["adapter_params"], result["score"])

    results = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=optuna_search(spec), num_samples=trials, max_concurrent_trials=os.cpu_count(), reuse_actors=warm
        ),
        run_config=tune.RunConfig(name="naive", storage_path=str(folder), callbacks=[RecordResults()], verbose=0),
    ).fit()
    assert not results.errors, results.errors


def run_warm(spec: SearchSpec, trials: int, folder: Path, record: Record) -> None:
    """Run OptunaSearch over warm actors."""
    from ray import tune

    with connection.running(None, folder / connection.LOG):
        trainable = tune.with_resources(autorank.tune_trainable(**options(spec)), {"cpu": 1})
        fit(trainable, spec, trials, folder, record, warm=True)


def run_naive(spec: SearchSpec, trials: int, folder: Path, record: Record) -> None:
    """Run OptunaSearch with one TorchTrainer of one worker per trial."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    loop = autorank.train_loop(**options(spec))

    def driver(config: dict[str, Any]) -> None:
        run_config = train.RunConfig(
            name=tune.get_context().get_trial_id(),
            storage_path=str(folder),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        )
        scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9})
        TorchTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=run_config).fit()

    with connection.running(None, folder / connection.LOG):
        fit(tune.with_resources(driver, {"cpu": 0.1}), spec, trials, folder, record, warm=False)


def hypervolumes(
    evaluations: list[tuple[float, int, float]], reference: tuple[float, float]
) -> list[tuple[float, float]]:
    """(seconds, hypervolume) after each evaluation."""
    points: list[Point] = []
    history = []
    for i, (seconds, params, score) in enumerate(evaluations):
        points = non_dominated([*points, Point(0, i, params, score, {}, params, {})])
        history.append((seconds, hypervolume(points, reference)))
    return history


def report(results: dict[str, dict[str, Any]], spec: SearchSpec) -> None:
    """Print the final hypervolume of each variant, and the time at which it reached that of the naive one."""
    reference = (float(parameter_range(spec, ParamBounds(spec.task, spec.model))[1]), 0.0)
    histories = {variant: hypervolumes(result["evaluations"], reference) for variant, result in results.items()}
    target = histories["naive"][-1][1]
    times = {
        variant: next((seconds for seconds, volume in history if volume >= target), None)
        for variant, history in histories.items()
    }
    print("| variant | evaluations | wall time | hypervolume | time to the naive variant's | ratio |")
    print("|---|---|---|---|---|---|")
    for variant, history in histories.items():
        seconds, naive_seconds = times[variant], times["naive"]
        reached = "never" if seconds is None else f"{seconds:.0f} s"
        ratio = "" if seconds is None or naive_seconds is None else f"{seconds / naive_seconds:.3f}"
        wall_time, volume = f"{results[variant]['seconds']:.0f} s", f"{history[-1][1]:.4f}"
        print(f"| {' | '.join([variant, str(len(history)), wall_time, volume, reached, ratio])} |")


if __name__ == "__main__":
    main()
