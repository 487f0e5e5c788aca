"""Measures the overhead of a trial: its time without training.

    python -m benchmarks.speed.orchestration [--warm 30] [--nested 3] [--simulated 10,100,1000]

The trials train nothing. Warm trials use the real searcher, journal and actors. Nested trials run a TorchTrainer within
each trial of Tune, as in Ray's documentation. Simulated trials run without Ray, in any number, with the real searcher,
early stopping, journal, deletion of adapters and MLflow (SQLite), and the random sampler, which takes almost no time.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autorank.searching.budget import Budget
from autorank.searching.create import open_journal
from autorank.searching.journal_searcher import JournalSearcher
from autorank.searching.ray.actors.trainable import WarmTrial, bind
from autorank.searching.ray.cluster import connection
from autorank.searching.ray.tune_callback import REFRESH_INTERVAL_S
from autorank.searching.search import run_missing_trials
from autorank.spec import MethodSpec, SearchSpec, TaskSpec
from autorank.tracking.background_logger import BackgroundLogger
from autorank.tracking.mlflow_sync import MLflowSync
from autorank.training.evaluation import Evaluation
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import adapter_path, delete_unneeded
from autorank.trials.snapshot import Snapshot

LAYERS = [f"encoder.layer.{i}.{kind}" for i in range(12) for kind in ("query", "key", "value", "out", "up", "down")]
EVALUATIONS = 4  # per trial


def evaluation(settings: Mapping[str, Any], step: int) -> Evaluation:
    """An evaluation with the rank as its parameters, and a score that grows with rank and step, with noise."""
    score = 0.5 + settings["rank"] / 100 + step / 100 + random.Random(repr(settings)).random() / 10
    return Evaluation(
        step=step, epoch=step, score=score, metrics={"accuracy": score}, train_loss=0.0,
        adapter_params=settings["rank"], nonzero_params=settings["rank"], trainable_params=settings["rank"],
        head_params=0, ranks=dict.fromkeys(LAYERS, settings["rank"]), seconds=float(step), peak_memory=0,
    )  # fmt: skip


class FakeRun:
    """A training run without training."""

    total_steps = EVALUATIONS

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.step = 0

    def __next__(self) -> Evaluation:
        self.step += 1
        return evaluation(self.settings, self.step)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def save_adapter(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def release(self) -> None:
        pass


class FakeTrial(WarmTrial):
    """A warm trial without training."""

    def open_run(self) -> Any:
        return FakeRun(self.spec.settings)


def bounds(method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
    return settings["rank"], settings["rank"]


def search_spec(**values: Any) -> SearchSpec:
    """A search of LoRA's rank and learning rate, without data and model."""
    space: dict[str, dict[str, Any]] = {
        "rank": {"type": "int", "low": 1, "high": 16},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    }
    defaults = {"name": "fake", "task": TaskSpec(name="demo"), "methods": (MethodSpec(method="lora", space=space),)}
    return SearchSpec(**defaults | values)


def measure_warm(trials: int) -> tuple[float, float]:
    """Seconds until the end of the first trial, and seconds per trial after it."""
    spec = search_spec(halving=None)
    ends: list[float] = []

    def record_ends(snapshot: Snapshot) -> None:
        ends[:] = [trial.ended for trial in snapshot.trials if trial.state == "complete"]

    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        with open_journal(spec, Path(folder) / spec.name, lambda: (16.0, 0.0)) as journal:
            trainable = bind(FakeTrial, folder=journal.folder)
            run_missing_trials(journal, trainable, bounds, Budget(trials, concurrency=1), progress=record_ends)
            assert_complete(journal, trials)
    return ends[0] - started, (ends[-1] - ends[0]) / (trials - 1)


def measure_simulated(trials: int) -> tuple[float, float, float]:
    """Seconds per trial, CPU seconds per trial (MLflow's thread included), and the growth of memory in MB."""
    spec = search_spec(sampler="random")
    with (
        tempfile.TemporaryDirectory() as folder,
        open_journal(spec, Path(folder) / spec.name, lambda: (16.0, 0.0)) as journal,
    ):
        sync = MLflowSync(f"sqlite:///{folder}/mlflow.db", spec, journal.search_id)
        mlflow_logger = BackgroundLogger(sync)
        searcher = JournalSearcher(
            journal, bounds, trials, on_evaluation=lambda: delete_unneeded(journal.folder, journal.snapshot())
        )
        last_update, started, cpu, memory = 0.0, time.monotonic(), time.process_time(), peak_memory()
        while isinstance(trial := searcher.suggest("t"), dict):
            run_trial(searcher, journal, trial)
            if time.monotonic() - last_update > REFRESH_INTERVAL_S:  # as in `TuneCallback`
                last_update = time.monotonic()
                mlflow_logger.update(journal.snapshot())
        assert searcher.problem is None and len(journal.trials()) == trials, searcher.problem
        mlflow_logger.update(journal.snapshot())
        assert mlflow_logger.close(timeout=3600)
    return (time.monotonic() - started) / trials, (time.process_time() - cpu) / trials, peak_memory() - memory


def run_trial(searcher: JournalSearcher, journal: Journal, trial: dict[str, Any]) -> None:
    """Report the results of one trial in the order in which Tune does."""
    for step in range(1, EVALUATIONS + 1):
        file = adapter_path(journal.folder, trial["number"], step)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        result = {"evaluation": evaluation(trial["train"].settings, step), "finished": step == EVALUATIONS}
        searcher.on_trial_result("t", result)
        if step < EVALUATIONS and searcher.should_stop("t"):
            break
    searcher.on_trial_complete("t", result)


def peak_memory() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def assert_complete(journal: Journal, trials: int) -> None:
    records = journal.trials()
    assert len(records) == trials
    assert all(len(record.evaluations) == EVALUATIONS for record in records)


def measure_nested(trials: int) -> tuple[float, float]:
    """As `warm`, for a TorchTrainer within each trial of Tune."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    ends: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ends.append(time.time())

    def loop(config: dict[str, Any]) -> None:
        for step in range(EVALUATIONS):
            train.report({"step": step, "score": config["learning_rate"]})

    def driver(config: dict[str, Any]) -> None:
        run_config = train.RunConfig(
            name=tune.get_context().get_trial_id(),
            storage_path=folder,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        )
        scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
        TorchTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=run_config).fit()

    with tempfile.TemporaryDirectory() as folder, connection.running(None, Path(folder) / connection.LOG):
        started = time.time()
        tune.Tuner(
            tune.with_resources(driver, {"cpu": 0.5}),
            param_space={"learning_rate": tune.loguniform(1e-4, 1e-2)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
            run_config=tune.RunConfig(name="nested", storage_path=folder, callbacks=[Ends()], verbose=0),
        ).fit()
    return ends[0] - started, (ends[-1] - ends[0]) / (trials - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", type=int, default=30, help="number of warm trials; 0: no warm and no nested trials")
    parser.add_argument("--nested", type=int, default=3, help="number of nested trials")
    parser.add_argument("--simulated", default="", help="numbers of simulated trials, separated by commas")
    arguments = parser.parse_args()
    for trials in [int(number) for number in arguments.simulated.split(",") if number]:
        seconds, cpu, memory = measure_simulated(trials)
        print(f"{trials:6d} simulated trials: {seconds:.3f} s per trial, {cpu:.3f} s of CPU, memory +{memory:.0f} MB",
              flush=True)  # fmt: skip
    if not arguments.warm:
        return
    first, later = measure_warm(arguments.warm)
    print(f"warm actors:          first trial {first:6.2f} s, each later one {later:8.3f} s", flush=True)
    if arguments.nested:
        nested_first, nested_later = measure_nested(arguments.nested)
        print(f"nested TorchTrainer:  first trial {nested_first:6.2f} s, each later one {nested_later:8.3f} s")
        print(f"ratio of later trials: {nested_later / later:.0f}")


if __name__ == "__main__":
    main()
