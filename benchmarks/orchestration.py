"""What a trial costs beside its training: warm actors against one nested Ray Train TorchTrainer a trial.

The trials do nothing. The warm ones pass through the real searcher, journal and actors; the nested ones are
what Ray's documentation shows for tuning a trainer.

    python benchmarks/orchestration.py [--warm 30] [--nested 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from autorank.results.journal import Journal
from autorank.results.records import Evaluation, TrialRecord
from autorank.search import cluster
from autorank.search.opening import open_journal
from autorank.search.run import Budget, conduct
from autorank.search.trainable import WarmTrial, bind
from autorank.spec import SearchSpec, TaskSpec, TrainSpec

EVALUATIONS = 4  # a trial


class NoRun:
    """Stands in for a training run: evaluates at once."""

    total_steps = EVALUATIONS

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.step = 0

    def __next__(self) -> Evaluation:
        self.step += 1
        return Evaluation(
            step=self.step, epoch=self.step, score=self.settings["learning_rate"], metrics={},
            train_loss=0.0, adapter_params=self.settings["rank"], nonzero_params=0, trainable_params=0,
            head_params=0, ranks={}, seconds=0.0, peak_memory=0,
        )  # fmt: skip

    def save_adapter(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def release(self) -> None:
        pass


class NoTrial(WarmTrial):
    """A warm trial without training."""

    def open_run(self) -> Any:
        return NoRun(self.settings)


def search_spec() -> SearchSpec:
    """LoRA's rank and learning rate; no data, no model."""
    return SearchSpec(
        name="nothing",
        seed=0,
        train=TrainSpec(task=TaskSpec(name="demo"), method="lora"),
        space={
            "rank": {"type": "int", "low": 1, "high": 16},
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        },
    )


def warm(trials: int) -> tuple[float, float]:
    """Seconds until the first trial's end, and of each one after it."""
    spec = search_spec()
    ends: list[float] = []

    def watch(records: list[TrialRecord]) -> None:
        ends[:] = [record.started + record.seconds for record in records if record.state == "complete"]

    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        with open_journal(spec, Path(folder) / spec.name, lambda: (16.0, 0.0)) as journal:
            trainable = bind(NoTrial, spec=spec.train, folder=journal.folder)
            conduct(journal, trainable, Budget(trials, concurrency=1), progress=watch)
            assert_complete(journal, trials)
    return ends[0] - started, (ends[-1] - ends[0]) / (trials - 1)


def assert_complete(journal: Journal, trials: int) -> None:
    records = journal.trials()
    assert len(records) == trials
    assert all(len(record.evaluations) == EVALUATIONS for record in records)


def nested(trials: int) -> tuple[float, float]:
    """The same for a TorchTrainer within each Tune trial."""
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
            callbacks=[TuneReportCallback()],  # type: ignore[list-item, no-untyped-call]
        )
        scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
        TorchTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=run_config).fit()

    with tempfile.TemporaryDirectory() as folder, cluster.running(None, Path(folder) / cluster.LOG):
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
    parser.add_argument("--warm", type=int, default=30, help="warm trials")
    parser.add_argument("--nested", type=int, default=3, help="nested trials; 0 leaves them out")
    asked = parser.parse_args()
    first, later = warm(asked.warm)
    print(f"warm actors:          first trial {first:6.2f} s, each after it {later:8.3f} s")
    if asked.nested:
        nested_first, nested_later = nested(asked.nested)
        print(f"nested TorchTrainer:  first trial {nested_first:6.2f} s, each after it {nested_later:8.3f} s")
        print(f"ratio of those after the first: {nested_later / later:.0f}")


if __name__ == "__main__":
    main()
