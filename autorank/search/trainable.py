"""The one training loop as Ray runs it: warm trials for Tune, and a worker's loop for Ray Train."""

from __future__ import annotations

import gc
import logging
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ValidationError
from ray import tune
from ray.tune.result import RESULT_DUPLICATE

from autorank import method as methods
from autorank.errors import AutorankError
from autorank.results.records import Evaluation
from autorank.search.files import adapter_path
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec, explain
from autorank.training.run import TrainingRun
from autorank.training.workshop import Workshop

logger = logging.getLogger(__name__)

STATE = "run.pt"
ADAPTER = "adapter.safetensors"


class MethodTrainable(tune.Trainable):
    """Trains `spec` with a trial's config as settings, an evaluation a step; stays warm between trials."""

    spec: ClassVar[TrainSpec]

    def setup(self, config: dict[str, Any]) -> None:
        if self.trial_resources is not None:
            cpus = self.trial_resources.required_resources.get("CPU", 1)
            torch.set_num_threads(max(1, int(cpus)))
        self.workshop = Workshop()
        self.run: TrainingRun | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self.settings = new_config
        return True

    def step(self) -> dict[str, Any]:
        evaluation = self.advance()
        if evaluation is None:
            return {"done": True, RESULT_DUPLICATE: True}
        return {**row(evaluation), "done": self.finished}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self.run is not None
        torch.save(self.run.state_dict(), Path(checkpoint_dir) / STATE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self._release()
        self.run = self.open_run()
        self.run.load_state_dict(torch.load(Path(checkpoint) / STATE, map_location="cpu", weights_only=True))

    def cleanup(self) -> None:
        self._release()

    def advance(self) -> Evaluation | None:
        """The next evaluation of the trial's run, which starts with the first; None after the last."""
        if self.run is None:
            self.run = self.open_run()
        return next(self.run, None)

    @property
    def finished(self) -> bool:
        """Whether the evaluation just made was the last."""
        return self.run is not None and self.run.step == self.run.total_steps

    def open_run(self) -> TrainingRun:
        settings = self.spec.settings | self.settings
        return TrainingRun(self.spec.model_copy(update={"settings": settings}), self.workshop)

    def _release(self) -> None:
        if self.run is not None:
            self.run.release()
            self.run = None


class WarmTrial(MethodTrainable):
    """A trial of a search: config `{"number", "settings"}`; the adapter of each evaluation goes to `folder`.

    A run that raises is reported as a failed trial, not as an error of the actor: Tune would throw that away,
    and the next trial would start cold.
    """

    folder: ClassVar[Path]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.number = new_config["number"]
        return super().reset_config(new_config["settings"])

    def step(self) -> dict[str, Any]:
        try:
            evaluation = self.advance()
            if evaluation is None:
                return {"done": True, RESULT_DUPLICATE: True}
            assert self.run is not None
            self.run.save_adapter(adapter_path(self.folder, self.number, evaluation.step))
        except torch.AcceleratorError:
            raise  # a GPU's context does not survive it; Tune starts a new actor
        except Exception as error:
            failure = {"failed": reason(error), "traceback": traceback.format_exc(), "done": True}
        else:
            return {"evaluation": evaluation, "finished": self.finished, "done": self.finished}
        self._recover()  # only now: the error held the run's tensors
        return failure

    def _recover(self) -> None:
        """A clean workshop, whatever state the run was left in."""
        try:
            self._release()
        except Exception:
            logging.getLogger(__name__).exception("the base model could not be given back clean; loading it anew")
            self.run, self.workshop = None, Workshop()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def bind(base: type[MethodTrainable], **attributes: Any) -> type[MethodTrainable]:
    """A subclass with these class attributes, which travels to the trials' processes."""
    return type(base.__name__, (base,), attributes)


def tune_trainable(method: str, task: str = "demo", **options: Any) -> type[MethodTrainable]:
    """A `tune.Trainable` that trains `method` on `task`; a trial's config are the method's settings.

    It goes into any `Tuner`: results are flat numbers (`score`, `adapter_params`, ...), checkpoints resume,
    and with `reuse_actors=True` base model and data stay loaded from trial to trial.

    Args:
        options: `model`, anything of `TaskSpec` (`data`, `max_train_examples`, ...) or of `TrainingSpec`
            (`epochs`, `seed`, ...), and settings of the method that every trial shares (`alpha`, ...).

    Raises:
        AutorankError: an unknown method or option, or a value that is refused.
    """
    return bind(MethodTrainable, spec=train_spec(method, task, **options))


def train_loop(method: str, task: str = "demo", **options: Any) -> Callable[[dict[str, Any]], None]:
    """A `train_loop_per_worker` that trains `method` on `task`; `train_loop_config` are the settings.

    It goes into any Ray Train `TorchTrainer` with one worker. Each evaluation is reported with a checkpoint
    that a restarted worker goes on from, and that holds the adapter (`adapter.safetensors`).

    Args and raises: as `tune_trainable`.
    """
    spec = train_spec(method, task, **options)

    def loop(config: dict[str, Any]) -> None:  # no default: Ray would take it for a loop without a config
        from ray import train
        from ray.train.torch import get_device

        workers = train.get_context().get_world_size()
        if workers > 1:
            raise AutorankError(
                f"This loop trains in one worker, but there are {workers}. Use ScalingConfig(num_workers=1)."
            )
        settings = spec.settings | config
        run = TrainingRun(spec.model_copy(update={"settings": settings}), Workshop(get_device()))
        if checkpoint := train.get_checkpoint():
            with checkpoint.as_directory() as folder:
                run.load_state_dict(torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True))
        for evaluation in run:
            with tempfile.TemporaryDirectory() as folder:
                torch.save(run.state_dict(), Path(folder) / STATE)
                run.save_adapter(Path(folder) / ADAPTER)
                train.report(row(evaluation), checkpoint=train.Checkpoint.from_directory(folder))

    return loop


def train_spec(method: str, task: str = "demo", **options: Any) -> TrainSpec:
    """A `TrainSpec` from flat options, each put where it belongs: see `tune_trainable`."""
    model = options.pop("model", None)
    if model is not None and Path(model).is_dir():
        model = str(Path(model).absolute())  # Ray runs trials in folders of its own
    if options.get("data") is not None:
        options["data"] = Path(options["data"]).absolute()
    training = {name: options.pop(name) for name in TrainingSpec.model_fields if name in options}
    source = {name: options.pop(name) for name in TaskSpec.model_fields if name in options}
    methods.configure(method, options)
    values = {"task": {**source, "name": task}, "model": model, "method": method, "settings": options}
    try:
        return TrainSpec.model_validate({**values, "training": training})
    except ValidationError as error:
        raise explain(error, "the run") from None


def row(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as flat numbers; the ranks, one for each layer, are left out."""
    values = evaluation.to_dict()
    del values["ranks"]
    return {**values.pop("metrics"), **values}


def reason(error: BaseException) -> str:
    """Why a trial failed, in a line."""
    if isinstance(error, AutorankError):
        return " ".join(str(error).split())
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}"
