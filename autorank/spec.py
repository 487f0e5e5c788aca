"""What is asked for, validated: one training (`TrainSpec`), or a search over many (`SearchSpec`).

Specs hold plain values only. They travel to workers, are written to a search's folder as JSON, and two searches are
the same search exactly when their specs are equal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from autorank.defaults import (
    BRACKETS,
    MAX_GRAD_NORM,
    REDUCTION_FACTOR,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    Objective,
    Precision,
    Quantization,
    Sampler,
)
from autorank.errors import AutorankError


class Spec(BaseModel):
    """Base of all specs: immutable, no unknown keys. Values are converted: they come from JSON and YAML too."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSpec(Spec):
    """What is learned, and from which data.

    `name` is a named task (`mrpc`, `demo`, ...). With `data` alone, a named task is read from that folder instead of
    the Hub. With `data`, and `text` and `label` or `prompt` and `completion`, it is the user's own file or folder, and
    `name` only labels it.
    """

    name: str
    data: Path | None = None
    text: tuple[str, ...] = ()
    label: str | None = None
    prompt: str | None = None  # of the user's own text-to-text data, in place of text and label
    completion: str | None = None
    metric: str | None = None  # which of the task's metrics is the score; None: its first
    chat: bool | None = None  # prompts in the tokenizer's chat template; None: where it has one
    max_length: PositiveInt | None = None  # tokens; None: the task's own
    max_train_examples: PositiveInt | None = None  # the first N after a shuffle with a fixed seed
    max_eval_examples: PositiveInt | None = None  # of each split that is evaluated
    tune_split: float = Field(0.0, ge=0, le=0.5)  # part of the training set on which a search selects, held out of it
    trust_remote_code: bool = False  # run code that comes with the model and its tokenizer
    final: bool = False  # evaluate on the untouched validation split; what is held out stays out of training

    @property
    def own_data(self) -> bool:
        """Whether the user's own columns are read rather than a named task's."""
        return self.label is not None or self.completion is not None


class TrainingSpec(Spec):
    """How a run is trained, whatever the method. None: the task's own default."""

    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None  # optimizer steps; overrides epochs
    batch_size: PositiveInt | None = None  # examples an optimizer step
    accumulate: PositiveInt | Literal["auto"] = 1  # micro-batches an optimizer step; auto: as few as fit on the GPU
    eval_every: PositiveInt | None = None  # optimizer steps; None: once an epoch. The last step is always evaluated
    warmup_ratio: float = Field(WARMUP_RATIO, ge=0, lt=1)
    weight_decay: float = Field(WEIGHT_DECAY, ge=0)
    max_grad_norm: float = Field(MAX_GRAD_NORM, gt=0)
    precision: Precision = "auto"  # auto: bf16 on a GPU that has it, else fp32
    quantize: Quantization | None = None  # of the frozen base (QLoRA)
    gradient_checkpointing: bool = False  # activations are computed again, not kept: same results, less memory
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> TrainingSpec:
        if self.accumulate != "auto" and self.batch_size is not None and self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}; "
                f"choose for example batch_size {self.accumulate * max(1, self.batch_size // self.accumulate)}"
            )
        return self


class TrainSpec(Spec):
    """One training run. `settings` are the method's own knobs, learning rate included; its `Config` validates them."""

    task: TaskSpec
    model: str | None = None  # folder or Hub name; None: the task's own
    method: str
    settings: dict[str, Any] = {}
    training: TrainingSpec = TrainingSpec()


class MethodSpec(Spec):
    """A method as a search has it: its fixed settings and its space."""

    method: str
    settings: dict[str, Any] = {}
    space: dict[str, dict[str, Any]]  # setting -> its range, as in search_spaces/*.yaml


class HalvingSpec(Spec):
    """When trials are stopped early; see `autorank.searching.early_stopping.mo_asha`. Defaults are ours."""

    grace: PositiveInt | None = None  # evaluations before the first rung; None: one in `factor` of a run's
    factor: int = Field(REDUCTION_FACTOR, ge=2)  # each rung keeps the best 1/factor, at factor times the evaluations
    brackets: PositiveInt = BRACKETS  # each trial is in one of so many, each of which begins a rung later


class ObjectivesSpec(Spec):
    """What is sought besides few parameters and a high score, and which points are of no use."""

    third: Objective | None = None  # as little of it as can be
    max_params: PositiveInt | None = None  # adapter parameters
    min_score: float | None = None
    max_memory: PositiveInt | None = None  # bytes on the GPU, at the peak


class SearchSpec(Spec):
    """A search: the task and the training that all its trials share, the methods, and how they are searched.

    Trials of `control`, plain LoRA tuned alike, are drawn beside the front but are no part of it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: TaskSpec
    model: str | None = None
    training: TrainingSpec = TrainingSpec()
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    control: MethodSpec | None = None
    sampler: Sampler = "tpe"
    halving: HalvingSpec | None = HalvingSpec()
    objectives: ObjectivesSpec = ObjectivesSpec()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _methods_differ(self) -> SearchSpec:
        names = [each.method for each in self.entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"method {twice[0]!r} is there twice; name each once")
        return self

    @property
    def title(self) -> str:
        """Name, methods (how many, where there are many) and task."""
        names = [each.method for each in self.methods]
        methods = ", ".join(names) if len(names) <= 3 else f"{len(names)} methods"
        return f"{self.name}: {methods} on {self.task.name}"

    @property
    def entries(self) -> tuple[MethodSpec, ...]:
        """The methods, the control last."""
        return self.methods if self.control is None else (*self.methods, self.control)

    def entry(self, method: str) -> MethodSpec:
        """What of a method is searched."""
        return next(entry for entry in self.entries if entry.method == method)

    def train(self, method: str, settings: dict[str, Any]) -> TrainSpec:
        """The run of a trial."""
        return TrainSpec(task=self.task, model=self.model, method=method, settings=settings, training=self.training)


def explain(error: ValidationError, what: str, keys: Iterable[str] = ()) -> AutorankError:
    """All of pydantic's findings about `what` in one message, a line each. `keys`: those that there are."""
    lines = []
    for found in error.errors():
        said = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden" and keys:
            near = difflib.get_close_matches(str(found["loc"][-1]), sorted(keys), n=1, cutoff=0.5)
            said = "there is no such key" + (f"; did you mean {near[0]!r}?" if near else "")
        elif found["type"] not in ("missing", "value_error"):
            said += f" (got {found['input']!r})"
        lines.append(f"  {'.'.join(map(str, found['loc'])) or what}: {said}")
    return AutorankError(f"{what} is not valid:\n" + "\n".join(lines))
