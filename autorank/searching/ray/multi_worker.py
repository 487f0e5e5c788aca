"""Several workers on one run, by Ray Train: a loop for any TorchTrainer, and a trial of a search that is one."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.tune.result import RESULT_DUPLICATE
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.queue import Queue

from autorank.searching.ray.placement_groups import free, note
from autorank.searching.ray.resources import Resources
from autorank.searching.ray.shared_storage_check import MountToken, Unreachable, see
from autorank.searching.ray.trainable import WarmTrial, failed, row, train_spec
from autorank.spec import TrainSpec
from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.distributed import rank
from autorank.training.run import TrainingRun
from autorank.trials.retention import adapter_path, checkpoint_path

STATE = "run.pt"
ADAPTER = "adapter.safetensors"
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how soon an end is noticed; 2 s unset
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less a trial, for restarts that we do without
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
PATIENCE = 30.0  # seconds for a trainer to end in good order


def train_loop(method: str, task: str = "demo", **options: Any) -> Callable[[dict[str, Any]], None]:
    """A `train_loop_per_worker` that trains `method` on `task`; `train_loop_config` are the settings.

    It goes into any Ray Train `TorchTrainer`; several workers share each step's batch. Each evaluation is reported
    with a checkpoint that a restarted group goes on from, bit for bit, and that holds the adapter
    (`adapter.safetensors`).

    Args and raises: as `tune_trainable`.
    """
    spec = train_spec(method, task, **options)

    def loop(config: dict[str, Any]) -> None:  # no default: Ray would take it for a loop without a config
        run = TrainingRun(spec.model_copy(update={"settings": spec.settings | config}), ModelCache(get_device()))
        made: list[Evaluation] = []
        if last := train.get_checkpoint():
            with last.as_directory() as folder:
                made = checkpoint.load(Path(folder) / STATE, run)
        for evaluation in run:
            made.append(evaluation)
            with tempfile.TemporaryDirectory() as folder:
                saved = None
                if rank() == 0:
                    checkpoint.save(Path(folder) / STATE, run, made)
                    run.save_adapter(Path(folder) / ADAPTER)
                    saved = train.Checkpoint.from_directory(folder)
                train.report(row(evaluation), checkpoint=saved)  # by every worker, or the others would wait

    return loop


class TrainedTrial(tune.Trainable):
    """A trial of the search in `folder`, trained by several workers: each trial is a TorchTrainer of its own.

    Config, files and results are those of `WarmTrial`.
    """

    folder: ClassVar[Path]
    shared_data: ClassVar[Any]
    mount_token: ClassVar[MountToken | None]
    each: ClassVar[Resources]

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Nothing but a byte, for Tune refuses to reserve nothing.

        The TorchTrainer reserves its workers itself, all or none, and would wait for ever for what its own trial held.
        So Tune's `max_concurrent_trials` alone says how many trials run at once.
        """
        return tune.PlacementGroupFactory([{"memory": 1}])

    def setup(self, config: dict[str, Any]) -> None:
        self._group: Group | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self._asked = new_config
        return True

    def step(self) -> dict[str, Any]:
        if self._group is None:
            shared = {"folder": self.folder, "shared_data": self.shared_data, "mount_token": self.mount_token}
            self._group = Group(self._asked | shared, self.each, Path(self.logdir), self.trial_id)
        return self._group.result()

    def cleanup(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None


def trained_trial(trial: type[WarmTrial], each: Resources) -> type[TrainedTrial]:
    """What `trial` is with one worker, for a Tuner, with several."""
    of_search = {name: getattr(trial, name) for name in ("folder", "shared_data", "mount_token")}
    return type("TrainedTrial", (TrainedTrial,), of_search | {"each": each})


class Trainer(TorchTrainer):
    """A TorchTrainer without its placement group cleaner, a process a trial that guards against the trainer's death.

    Where a second Ray runs on the machine, or the dashboard does not, the cleaner may ask the wrong Ray or none whether
    the trainer lives: it then takes the workers of a healthy run away, or never those of a dead one (Ray 2.60). The
    driver frees those of a dead one instead (`Scheduler`).
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


class Group:
    """The workers of one trial, from their start until `close`.

    Results come through a queue: Ray Train's own reports would be a poll later, and are numbers only.

    Args:
        trial: Tune's id, under which what the workers have reserved is noted.
    """

    def __init__(self, config: dict[str, Any], each: Resources, storage: Path, trial: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._queue = Queue(actor_options={"num_cpus": 0})
        self._trial = trial
        trainer = Trainer(
            work,
            train_loop_config=config | {"queue": self._queue, "cpus": each.cpus},
            torch_config=TorchConfig(backend="nccl" if each.gpus >= 1 else "gloo"),  # NCCL wants a GPU for each
            scaling_config=train.ScalingConfig(
                num_workers=each.workers,
                use_gpu=each.gpus > 0,
                resources_per_worker={"CPU": each.cpus, "GPU": each.gpus},
            ),
            run_config=train.RunConfig(name="workers", storage_path=str(storage)),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self._thread.start()

    def _fit(self, trainer: Trainer) -> None:
        try:
            trainer.fit()
            self._queue.put({"done": True, RESULT_DUPLICATE: True})
        except Exception as error:
            self._queue.put(failure(error))

    def result(self) -> dict[str, Any]:
        """The next one; the last has `done`, and then all is free again. Raises what `failure` says."""
        while isinstance(item := self._queue.get(), PlacementGroup):
            note(self._trial, item)
        if isinstance(item, Exception):
            raise item
        result: dict[str, Any] = item
        return result

    def close(self) -> None:
        """End the workers, whatever they are at: without their reservation they are killed at once."""
        free(self._trial)
        self._thread.join(PATIENCE)


def work(config: dict[str, Any]) -> None:
    """What each worker of a trial does."""
    torch.set_num_threads(max(1, config["cpus"]))
    folder, number, queue = config["folder"], config["number"], config["queue"]
    first = rank() == 0
    if first:
        queue.put(get_current_placement_group())
    if config["mount_token"] is not None:
        see(config["mount_token"])
    model_cache = ModelCache(get_device())
    if config["shared_data"] is not None:
        model_cache.keep(*ray.get(config["shared_data"]))
    run = TrainingRun(TrainSpec.model_validate(config["train"]), model_cache)

    until = config.get("until")

    def hand_in(evaluation: Evaluation) -> None:
        finished = evaluation.step == (until or run.total_steps)
        if finished and config.get("sizes"):
            evaluation = run.with_slices(evaluation, config["sizes"])  # by all workers together
        if first:
            queue.put({"evaluation": evaluation, "finished": finished})

    made = checkpoint.load(checkpoint_path(folder, number), run)
    for evaluation in made:
        if evaluation.step > config["recorded"]:
            hand_in(evaluation)
    if made and made[-1].step == until:  # it was cut off between its last evaluation and its end
        return
    for evaluation in run:
        made.append(evaluation)
        if first:
            if "until" not in config:
                run.save_adapter(adapter_path(folder, number, evaluation.step))
            checkpoint.save(checkpoint_path(folder, number), run, made)
        hand_in(evaluation)
        if evaluation.step == until:
            break


def failure(error: Exception) -> dict[str, Any] | Exception:
    """What a trial tells when its trainer failed.

    As `WarmTrial` does: a run that raised is a result, but a process that died, lost its GPU or does not see the folder
    is an error to raise, after which the searcher tries again. Where one ran out of memory, the others miss it, or die
    of that: it alone says what to do.
    """
    causes = [getattr(error, "controller_failure", error)]
    if isinstance(error, train.WorkerGroupError):
        causes = list(error.worker_failures.values())
    memory = [cause for cause in causes if isinstance(cause, torch.OutOfMemoryError)]
    for cause in causes if not memory else ():
        if isinstance(cause, torch.AcceleratorError | Unreachable) or type(cause).__module__.startswith("ray."):
            return cause
    return failed((memory or causes)[0]) | {"traceback": str(error)}
