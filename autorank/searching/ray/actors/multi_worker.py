"""Training with several workers by Ray Train: a loop for any TorchTrainer, and trials of a search."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.queue import Queue
from typing_extensions import override

from autorank.searching.ray import _compat
from autorank.searching.ray.actors.placement_groups import release, store
from autorank.searching.ray.actors.recorded_run import ENDED, RecordedRun, failed
from autorank.searching.ray.actors.trainable import WarmTrial, bind, from_options, row
from autorank.searching.ray.resources import Resources, keep_within
from autorank.searching.ray.shared_storage_check import Unreachable, check_from_node
from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.distributed import rank
from autorank.training.run import TrainingRun
from autorank.trials.retention import CHECKPOINT, checkpoint_path

ADAPTER = "adapter.safetensors"
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # delay until the end of a run is noticed; Ray's default is 2 s
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves a process per trial; autorank retries trials itself
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
TRAINER_SHUTDOWN_TIMEOUT_S = 30.0  # seconds to wait for the end of a trainer


def train_loop(method: str, task: str = "demo", **options: Any) -> Callable[[dict[str, Any]], None]:
    """Create a `train_loop_per_worker` for a Ray Train `TorchTrainer`; its `train_loop_config` are the settings.

    Several workers share the batch of each step. Each evaluation is reported with a checkpoint, from which a restarted
    group of workers continues bit for bit, and which contains the adapter (`adapter.safetensors`).

    Args:
        method: The method.
        task: The task.
        options: As for `tune_trainable`.

    Returns:
        The loop.

    Raises:
        AutorankError: A method or option is unknown, or a value is not valid.
    """
    spec = from_options(method, task, **options)

    def loop(config: dict[str, Any]) -> None:  # without a default, or Ray would call it without a config
        run = TrainingRun(spec.changed(config), ModelCache(get_device()))
        evaluations: list[Evaluation] = []
        if last := train.get_checkpoint():
            with last.as_directory() as folder:
                evaluations = checkpoint.load(Path(folder) / CHECKPOINT, run)
        for evaluation in run:
            evaluations.append(evaluation)
            with tempfile.TemporaryDirectory() as folder:
                saved = None
                if rank() == 0:
                    checkpoint.save(Path(folder) / CHECKPOINT, run, evaluations)
                    run.save_adapter(Path(folder) / ADAPTER)
                    saved = train.Checkpoint.from_directory(folder)
                train.report(row(evaluation), checkpoint=saved)  # all workers must call it

    return loop


class MultiWorkerTrial(tune.Trainable):
    """A trial of a search that several workers train, in a TorchTrainer. Config, files and results: see `WarmTrial`."""

    shared: ClassVar[Mapping[str, Any]]  # `folder`, `shared_data` and `mount_token` of `WarmTrial`
    resources: ClassVar[Resources]

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Request one byte of memory, because Tune does not accept an empty request.

        The TorchTrainer reserves the resources of all workers at once. It would wait forever for resources that its own
        trial had reserved. So only Tune's `max_concurrent_trials` limits how many trials run at once.
        """
        return tune.PlacementGroupFactory([{"memory": 1}])

    @override
    def setup(self, config: dict[str, Any]) -> None:
        self._workers: Workers | None = None
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self._config = new_config
        return True

    @override
    def step(self) -> dict[str, Any]:
        if self._workers is None:
            self._workers = Workers({**self._config, **self.shared}, self.resources, Path(self.logdir), self.trial_id)
        return self._workers.result()

    @override
    def cleanup(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None


def multi_worker_trial(trial: type[WarmTrial], resources: Resources) -> type[MultiWorkerTrial]:
    """Return the Tune trainable that trains the trials of a search with several workers.

    Args:
        trial: The class that trains them with one worker.
        resources: The resources of a trial.

    Returns:
        The class.
    """
    attributes = {name: getattr(trial, name) for name in ("folder", "shared_data", "mount_token")}
    return bind(MultiWorkerTrial, shared=attributes, resources=resources)


class Trainer(TorchTrainer):
    """A TorchTrainer without its placement group cleaner, a process per trial that watches whether the trainer runs.

    If a second Ray runs on the machine, or the dashboard does not run, the cleaner may ask the wrong Ray, or none. It
    then releases the workers of a healthy run, or never releases those of a dead one (Ray 2.60). Here the driver
    releases the workers of a dead trainer (`Scheduler`).
    """

    def _create_default_callbacks(self) -> list[Any]:
        return _compat.without_placement_group_cleaner(super()._create_default_callbacks())  # type: ignore[misc]


class Workers:
    """The workers of one trial, from their start until `close`.

    Results are sent through a queue, because Ray Train's reports arrive one poll later and contain only numbers.

    Args:
        config: The config of the trial, and `MultiWorkerTrial.shared`.
        resources: The resources of the trial.
        storage: Directory for Ray Train's files.
        trial: Tune's id of the trial, under which the workers' placement group is stored.
    """

    def __init__(self, config: dict[str, Any], resources: Resources, storage: Path, trial: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._queue = Queue(actor_options={"num_cpus": 0})
        self._trial = trial
        trainer = Trainer(
            work,
            train_loop_config=config | {"queue": self._queue, "cpus": resources.cpus, "gpus": resources.gpus},
            torch_config=TorchConfig(backend="nccl" if resources.gpus >= 1 else "gloo"),  # NCCL needs a GPU per worker
            scaling_config=train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker={"CPU": resources.cpus, "GPU": resources.gpus},
            ),
            run_config=train.RunConfig(name="workers", storage_path=str(storage)),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self._thread.start()

    def _fit(self, trainer: Trainer) -> None:
        try:
            trainer.fit()
            self._queue.put(ENDED)
        except Exception as error:
            self._queue.put(failure(error))

    def result(self) -> dict[str, Any]:
        """Wait for the next result of the trial.

        Returns:
            The result; the last one has `done`.

        Raises:
            Exception: The error of a trial that is to be retried; see `failure`.
        """
        while isinstance(item := self._queue.get(), PlacementGroup):
            store(self._trial, item)
        if isinstance(item, Exception):
            raise item
        result: dict[str, Any] = item
        return result

    def close(self) -> None:
        """End the workers: when their placement group is removed, Ray kills them at once."""
        release(self._trial)
        self._thread.join(TRAINER_SHUTDOWN_TIMEOUT_S)


def work(config: dict[str, Any]) -> None:
    """Train a trial on one worker, and send its evaluations to the queue."""
    keep_within(config["cpus"], config["gpus"])
    if rank() == 0:
        config["queue"].put(get_current_placement_group())
    if config["mount_token"] is not None:
        check_from_node(config["mount_token"])
    model_cache = ModelCache(get_device())
    if config["shared_data"] is not None:
        model_cache.store(**ray.get(config["shared_data"]))
    run = TrainingRun(config["train"], model_cache)
    evaluations = checkpoint.load(checkpoint_path(config["folder"], config["number"]), run)
    for result in RecordedRun(config["folder"], config, run, evaluations):
        if rank() == 0:
            config["queue"].put(result | {"done": False})  # the trial is done when all workers have ended
        if result["done"]:
            break


def failure(error: Exception) -> dict[str, Any] | Exception:
    """The result of a trial whose trainer failed, or the error to raise.

    As in `WarmTrial`, an error of the run becomes the result of a failed trial. If a process died, lost its GPU or
    cannot access the directory, its error is raised and the searcher retries the trial. If a worker ran out of memory,
    only its error counts, since the others fail because of it.

    Args:
        error: The error that the trainer raised.

    Returns:
        The result of a failed trial, or the error to raise.
    """
    causes = [getattr(error, "controller_failure", error)]
    if isinstance(error, train.WorkerGroupError):
        causes = list(error.worker_failures.values())
    memory = [cause for cause in causes if isinstance(cause, torch.OutOfMemoryError)]
    for cause in causes if not memory else ():
        if isinstance(cause, torch.AcceleratorError | Unreachable) or type(cause).__module__.startswith("ray."):
            return cause
    return failed((memory or causes)[0]) | {"traceback": str(error)}
