"""Trainables for Tune: they run the training loop in actors that keep base model and data between trials."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import ray
import torch
from ray import tune
from typing_extensions import override

from autorank import methods
from autorank.searching.ray.actors.recorded_run import ENDED, RecordedRun, failed
from autorank.searching.ray.resources import keep_within
from autorank.searching.ray.shared_storage_check import MountToken, Unreachable, check_from_node
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training import checkpoint
from autorank.training.evaluation import Evaluation
from autorank.training.gpu import reserved_device
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from autorank.trials.retention import CHECKPOINT, checkpoint_path

logger = logging.getLogger(__name__)

T = TypeVar("T")


class MethodTrainable(tune.Trainable):
    """Trains `spec` with a trial's config as settings, and reports one evaluation per Tune step."""

    spec: TrainSpec

    @override
    def setup(self, config: dict[str, Any]) -> None:
        if self.trial_resources is not None:
            resources = self.trial_resources.required_resources
            keep_within(resources.get("CPU", 1), resources.get("GPU", 0))
        self.model_cache = self._new_model_cache()
        self.run: TrainingRun | None = None
        self.reset_config(config)

    def _new_model_cache(self) -> ModelCache:
        if self.trial_resources is None:
            return ModelCache()
        return ModelCache(reserved_device(self.trial_resources.required_resources.get("GPU", 0)))

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self.settings = new_config
        return True

    @override
    def step(self) -> dict[str, Any]:
        if self.run is None:
            self.run = self.open_run()
        evaluation = next(self.run, None)
        return ENDED if evaluation is None else {**row(evaluation), "done": self.run.step == self.run.total_steps}

    @override
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self.run is not None
        torch.save(self.run.state_dict(), Path(checkpoint_dir) / CHECKPOINT)

    @override
    def load_checkpoint(self, checkpoint: Any) -> None:
        self._release()
        self.run = self.open_run()
        self.run.load_state_dict(torch.load(Path(checkpoint) / CHECKPOINT, map_location="cpu", weights_only=True))

    @override
    def cleanup(self) -> None:
        self._release()

    def open_run(self) -> TrainingRun:
        """Return the trial's run, before data and model are loaded."""
        return TrainingRun(self.spec.changed(self.settings), self.model_cache)

    def _release(self) -> None:
        if self.run is not None:
            self.run.release()
            self.run = None


class WarmTrial(MethodTrainable):
    """A trial of a search. Its config is created by a searcher.

        number      name of its directory
        train       its `TrainSpec`
        recorded    step of the last evaluation in the journal
        until       if no adapter is stored: the step at which training ends, the only one with a score; None: the end
                    of the run, with all scores
        sizes       with `until`: parameters; for each of them the last evaluation has a slice of at most this size

    The adapter of an evaluation, and then a checkpoint, are written to `folder` before the evaluation is reported. A
    trial with a checkpoint continues from it, and first reports the evaluations that the journal lacks.

    An error of the run becomes the result of a failed trial. If the actor raised it, Tune would end the actor, and the
    next trial would have to load the base model again.
    """

    folder: ClassVar[Path]
    shared_data: ClassVar[Any] = None  # Ray's reference to the arguments of `ModelCache.store`, for nodes without them
    mount_token: ClassVar[MountToken | None] = None  # checks that this node can access `folder`

    @override
    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self._load_shared_data()

    def _load_shared_data(self) -> None:
        if self.shared_data is not None:
            self.model_cache.store(**ray.get(self.shared_data))

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial_config = new_config
        self.number = new_config["number"]
        self.spec = new_config["train"]
        return super().reset_config({})

    @override
    def _release(self) -> None:
        self._recorded: RecordedRun | None = None  # refers to the run
        super()._release()

    @override
    def step(self) -> dict[str, Any]:
        try:
            return self._step()
        except (torch.AcceleratorError, Unreachable):
            raise  # the GPU's context is unusable, or this node cannot access the directory: Tune starts a new actor
        except Exception as error:
            failure = failed(error)
        self._recover()  # after the `except` block, because the error refers to the run's tensors
        return failure

    def _step(self) -> dict[str, Any]:
        if self._recorded is None:
            if self.mount_token is not None:
                check_from_node(self.mount_token)
            self.run = self.open_run()
            evaluations = checkpoint.load(checkpoint_path(self.folder, self.number), self.run)
            self._recorded = RecordedRun(self.folder, self.trial_config, self.run, evaluations)
        return next(self._recorded, ENDED)

    def _recover(self) -> None:
        """Return to a clean model cache after an error of the run."""
        try:
            self._release()
        except Exception:
            logger.exception("the base model could not be restored; loading it again")
            self.run, self.model_cache = None, self._new_model_cache()
            self._load_shared_data()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def bind(base: type[T], **attributes: Any) -> type[T]:
    """A subclass with these class attributes, which is sent to the processes of trials and packs."""
    return type(base.__name__, (base,), attributes)


def tune_trainable(method: str, task: str = "demo", **options: Any) -> type[MethodTrainable]:
    """Create a `tune.Trainable` that trains a method on a task; the config of a trial are the method's settings.

    It works with any `Tuner`: results are flat numbers (`score`, `adapter_params`, ...), checkpoints can be resumed,
    and with `reuse_actors=True` base model and data stay loaded between trials.

    Args:
        method: The method.
        task: The task.
        options: `model`, fields of `TaskSpec` (`data`, `max_train_examples`, ...) and of `TrainingSpec` (`epochs`,
            `seed`, ...), and settings of the method shared by all trials (`alpha`, ...).

    Returns:
        The class.

    Raises:
        AutorankError: A method or option is unknown, or a value is not valid.
    """
    return bind(MethodTrainable, spec=from_options(method, task, **options))


def from_options(method: str, task: str = "demo", **options: Any) -> TrainSpec:
    """A `TrainSpec` from the options of `tune_trainable`."""
    model = options.pop("model", None)
    if model is not None and Path(model).is_dir():
        model = str(Path(model).absolute())  # Ray runs trials in directories of its own
    if options.get("data") is not None:
        options["data"] = Path(options["data"]).absolute()
    training = {name: options.pop(name) for name in TrainingSpec.model_fields if name in options}
    source = {name: options.pop(name) for name in TaskSpec.model_fields if name in options}
    return methods.train_spec(method, options, {**source, "name": task}, training, model)


def row(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as flat numbers; ranks and slices are left out."""
    values = evaluation.to_dict()
    del values["ranks"], values["slices"]
    return {**values.pop("metrics"), **values}
