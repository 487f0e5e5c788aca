"""One real search three ways, one after the other: wall time to what the naive one has found in the end.

    python benchmarks/naive_tune.py --data MRPC --model MINILM --out naive.jsonl

naive   Ray Tune with OptunaSearch as it ships and one Ray Train TorchTrainer a trial, as Ray's documentation shows it
warm    the same search over `autorank.tune_trainable` with `reuse_actors`: actors stay, trials run to their end
ours    `autorank search` with everything on: slices, the journal, MLflow, early stopping, the baseline

All three train the same loop with the same settings' ranges, and as many trials at once as there are CPUs. A front's
hypervolume is counted from the space's largest adapter and score 0, over all evaluations told so far (and the slices
of ours), from the moment the way's own process starts its search: Ray's start counts. Of ours the baseline's points do
not count.
Ways that are in `--out` are not run again.
"""

from __future__ import annotations

import argparse
import json
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
from autorank.searching.sampling.optuna_study import distributions
from autorank.searching.search import search as autorank_search
from autorank.searching.space import space as spaces
from autorank.searching.space.param_bounds import ParamBounds, parameter_range
from autorank.spec import SearchSpec, TaskSpec, TrainingSpec
from autorank.trials.front import hypervolume, non_dominated
from autorank.trials.point import Point
from autorank.trials.snapshot import Snapshot

Tell = Callable[[int, float], None]  # adapter parameters and score of an evaluation


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
    parser.add_argument("--set", action="append", default=[], help="key=value: a setting that is not searched")
    parser.add_argument("--ways", default="ours,warm,naive")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    task = TaskSpec(
        name=arguments.task, data=arguments.data.absolute(), max_train_examples=arguments.examples,
        max_length=arguments.max_length,
    )  # fmt: skip
    training = TrainingSpec(epochs=arguments.epochs, eval_every=arguments.eval_every, precision=arguments.precision)
    searched = spaces.load_all([arguments.method], overrides=arguments.set)
    spec = make_spec(searched, task, arguments.model, training, name="benchmark")
    known = {line["way"]: line for line in read(arguments.out)}
    for way in arguments.ways.split(","):
        if way not in known:
            known[way] = run(way, spec, arguments.trials)
            with arguments.out.open("a") as file:
                file.write(json.dumps(known[way]) + "\n")
    if "naive" in known:
        report(known, spec)


def read(file: Path) -> list[dict[str, Any]]:
    """The ways that were run already."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(way: str, spec: SearchSpec, trials: int) -> dict[str, Any]:
    """A search: when (seconds) which evaluation (parameters, score) was told."""
    told: list[tuple[float, int, float]] = []
    started = time.monotonic()

    def tell(params: int, score: float) -> None:
        told.append((time.monotonic() - started, params, score))

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        os.environ["AUTORANK_CACHE"] = cache  # each tokenises and probes for itself
        {"naive": naive, "warm": warm, "ours": ours}[way](spec, trials, Path(folder), tell)
    return {"way": way, "seconds": time.monotonic() - started, "told": told}


def ours(spec: SearchSpec, trials: int, folder: Path, tell: Tell) -> None:
    """As `autorank search` does it."""
    seen: set[tuple[int, int]] = set()

    def progress(snapshot: Snapshot) -> None:
        for trial in snapshot.trials:
            for evaluation in () if trial.baseline else trial.evaluations:
                if (trial.number, evaluation.step) not in seen:
                    seen.add((trial.number, evaluation.step))
                    for point in (evaluation, *evaluation.slices):
                        tell(point.adapter_params, point.score)

    training = spec.training.model_copy(update={"slices": "auto"})
    spec = spec.model_copy(update={"training": training})
    autorank_search(spec, folder / spec.name, Budget(trials), f"sqlite:///{folder / 'mlflow.db'}", progress)


def options(spec: SearchSpec) -> dict[str, Any]:
    """The same run as flat options of `train_loop` and `tune_trainable`."""
    (entry,) = spec.methods
    task = {"data": spec.task.data, "max_train_examples": spec.task.max_train_examples}
    training = {name: value for name, value in spec.training.model_dump().items() if value is not None}
    return {"method": entry.method, "task": spec.task.name, "model": spec.model, **task, **training, **entry.settings}


def stock(spec: SearchSpec) -> Any:
    """OptunaSearch as Ray ships it, over the method's space."""
    from ray.tune.search.optuna import OptunaSearch

    (entry,) = spec.methods
    return OptunaSearch(distributions(entry), metric=["adapter_params", "score"], mode=["min", "max"], seed=spec.seed)


def fit(trainable: Any, spec: SearchSpec, trials: int, folder: Path, tell: Tell, warm: bool) -> None:
    from ray import tune

    class Watch(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            tell(result["adapter_params"], result["score"])

    found = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=stock(spec), num_samples=trials, max_concurrent_trials=os.cpu_count(), reuse_actors=warm
        ),
        run_config=tune.RunConfig(name="naive", storage_path=str(folder), callbacks=[Watch()], verbose=0),
    ).fit()
    assert not found.errors, found.errors


def warm(spec: SearchSpec, trials: int, folder: Path, tell: Tell) -> None:
    """Stock search, warm actors."""
    from ray import tune

    with connection.running(None, folder / connection.LOG):
        trainable = tune.with_resources(autorank.tune_trainable(**options(spec)), {"cpu": 1})
        fit(trainable, spec, trials, folder, tell, warm=True)


def naive(spec: SearchSpec, trials: int, folder: Path, tell: Tell) -> None:
    """Stock search, a TorchTrainer of one worker a trial."""
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
        fit(tune.with_resources(driver, {"cpu": 0.1}), spec, trials, folder, tell, warm=False)


def grown(told: list[tuple[float, int, float]], reference: tuple[float, float]) -> list[tuple[float, float]]:
    """(seconds, hypervolume) after each evaluation."""
    points: list[Point] = []
    history = []
    for i, (seconds, params, score) in enumerate(told):
        points = non_dominated([*points, Point(0, i, params, score, {}, params, {})])
        history.append((seconds, hypervolume(points, reference)))
    return history


def report(known: dict[str, dict[str, Any]], spec: SearchSpec) -> None:
    """What each way found, and when it had what the naive one has in the end."""
    reference = (float(parameter_range(spec, ParamBounds(spec.task, spec.model))[1]), 0.0)
    histories = {way: grown(line["told"], reference) for way, line in known.items()}
    goal = histories["naive"][-1][1]
    times = {
        way: next((seconds for seconds, volume in history if volume >= goal), None)
        for way, history in histories.items()
    }
    print("| way | evaluations | wall time | hypervolume | when at the naive one's | part of its time |")
    print("|---|---|---|---|---|---|")
    for way, history in histories.items():
        reached, naive_time = times[way], times["naive"]
        when = "never" if reached is None else f"{reached:.0f} s"
        part = "" if reached is None or naive_time is None else f"{reached / naive_time:.3f}"
        cells = [way, str(len(history)), f"{known[way]['seconds']:.0f} s", f"{history[-1][1]:.4f}", when, part]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
