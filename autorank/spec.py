"""Validated specifications of one training (`TrainSpec`) and of a search (`SearchSpec`).

Specs contain plain values only. They are sent to workers and stored in the search's directory as JSON. Two searches
are the same search if and only if their specs are equal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from autorank.defaults import (
    ACCUMULATE,
    MAX_GRAD_NORM,
    MAX_INT,
    MAX_SEED,
    PRECISION,
    REDUCTION_FACTOR,
    SAMPLER,
    SEED,
    SLICE_SCORE,
    TUNE_SPLIT,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    LabelType,
    Objective,
    Precision,
    Quantization,
    Sampler,
    SliceScore,
)

Count = Annotated[int, Field(gt=0, le=MAX_INT)]


class Spec(BaseModel):
    """Base class of all specs: immutable, without unknown keys; values from JSON and YAML are converted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _names(names: Any) -> Any:
    """A single name as a tuple, and none as an empty one."""
    return (names,) if isinstance(names, str) else names or ()


class TaskSpec(Spec):
    """The task and its data.

    `name` is a named task (`mrpc`, `demo`, ...). With `data` alone, the named task is read from there. With `data` and
    either `text` and `label`, `prompt` and `completion`, or `messages`, the data is the user's own, and `name` is only
    a label. `data` is a file, a directory, a pattern, an address such as `s3://bucket/train.csv`, or a dataset on the
    Hub, `owner/name[:config]`.
    """

    name: str
    data: Annotated[str, BeforeValidator(lambda data: os.fspath(data) if isinstance(data, Path) else data)] | None = (
        None
    )
    train_split: str | None = None  # split of the user's own data; None: `train`
    eval_split: str | None = None  # likewise; None: `validation`, or a tenth of the training examples
    text: tuple[str, ...] = ()
    label: str | None = None
    label_columns: tuple[str, ...] = ()  # several, of zeros and ones, one for each class; `label` names them together
    label_type: LabelType | None = None  # what labels are; None: what they look like
    prompt: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()  # prompt columns of the user's own data, joined
    completion: str | None = None
    messages: str | None = None  # column of the user's own conversations, in place of prompt and completion
    metric: str | None = None  # the score; None: the task's first metric
    metric_source: str | None = None  # source of the user's own metric, see `tasks.own_metric`
    chat: bool | None = None  # prompts in the tokenizer's chat template; None: where it has one
    max_length: Count | None = None  # tokens; None: the task's own
    max_train_examples: Count | None = None  # the first N after a shuffle with a fixed seed
    max_eval_examples: Count | None = None  # examples of each evaluated split
    tune_split: float = Field(TUNE_SPLIT, ge=0, le=0.5)  # part of the training set held out to select on
    trust_remote_code: bool = False  # run code that comes with the model and its tokenizer
    final: bool = False  # evaluate on the untouched validation split; what is held out stays out of training

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the user's own data: texts and label, prompt and completion, or conversations."""
        labels = self.label_columns or (self.label,)
        names = (*self.text, *self.prompt, *labels, self.completion, self.messages)
        return tuple(name for name in names if name is not None)

    @property
    def own_data(self) -> bool:
        """Whether the user's own columns are read rather than a named task's."""
        return any(column is not None for column in (self.label, self.completion, self.messages))

    def options(self, given_only: bool = False) -> dict[str, Any]:
        """Return the options that choose this task.

        Args:
            given_only: Leave out options that have their default value.

        Returns:
            Option -> value; columns of texts, labels and prompts as lists.
        """
        fixed = {"name", "label_columns", "metric_source", "final"}
        values = self.model_dump(exclude=fixed, exclude_defaults=given_only)
        columns = {"text": self.text, "label": self.label_columns or (self.label,), "prompt": self.prompt}
        values |= {name: list(columns[name]) for name in columns if values.get(name)}
        return {"task": None if self.own_data else self.name, **values}


class TrainingSpec(Spec):
    """Options of training, the same for all methods. None: the task's default."""

    epochs: Count | None = None
    steps: Count | None = None  # optimizer steps; overrides epochs
    batch_size: Count | None = None  # examples an optimizer step
    accumulate: Count | Literal["auto"] = ACCUMULATE  # micro-batches a step; auto: as few as fit on the GPU
    eval_every: Count | None = None  # optimizer steps; None: once an epoch. The last step is always evaluated
    warmup_ratio: float = Field(WARMUP_RATIO, ge=0, lt=1)
    weight_decay: float = Field(WEIGHT_DECAY, ge=0)
    max_grad_norm: float = Field(MAX_GRAD_NORM, gt=0)
    precision: Precision = PRECISION  # auto: bf16 on a GPU that computes in it, fp16 on an older one, fp32 on a CPU
    quantize: Quantization | None = None  # quantization of the frozen base (QLoRA)
    gradient_checkpointing: bool = False  # activations are computed again, not kept: same results, less memory
    slice_score: SliceScore = SLICE_SCORE  # by which slices keep components, see `training.slicing.component_scores`
    slices: Count | Literal["auto", "off"] = "off"  # smaller adapters scored after each evaluation
    seed: int = Field(SEED, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> TrainingSpec:
        if self.accumulate != "auto" and self.batch_size is not None and self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}; "
                f"choose for example batch_size {self.accumulate * max(1, self.batch_size // self.accumulate)}"
            )
        return self


class TrainSpec(Spec):
    """One training run. Created by `methods.train_spec` from values of a user, by `SearchSpec.train` for a trial.

    `settings` are those of the method as plain values, learning rate included. The method's `config` is the object
    that `methods.configure` validates and creates from them.
    """

    task: TaskSpec
    model: str | None = None  # directory or Hub name; None: the task's own
    method: str
    settings: dict[str, Any] = {}
    training: TrainingSpec = TrainingSpec()
    max_slice_params: Count | None = None  # size of the largest slice that is scored; None: any

    def changed(
        self,
        settings: Mapping[str, Any] | None = None,
        task: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> TrainSpec:
        """Return the same run with other values.

        Args:
            settings: Settings of the method to replace or add; they are not validated.
            task: Fields of the task to replace.
            training: Fields of the training options to replace.

        Returns:
            The changed specification.
        """
        return self.model_copy(
            update={
                "settings": {**self.settings, **(settings or {})},
                "task": self.task.model_copy(update=task),
                "training": self.training.model_copy(update=training),
            }
        )


class MethodSpec(Spec):
    """A method in a search: its fixed settings and its space."""

    method: str
    settings: dict[str, Any] = {}
    space: dict[str, dict[str, Any]]  # setting -> its range, as in search_spaces/*.yaml


class HalvingSpec(Spec):
    """Early stopping of trials, see `autorank.searching.early_stopping.mo_asha`. Defaults are ours."""

    grace: Count | None = None  # evaluations before the first rung; None: one in `factor` of a run's
    factor: int = Field(REDUCTION_FACTOR, ge=2)  # each rung keeps the best 1/factor, at factor times the evaluations


class ObjectivesSpec(Spec):
    """A third objective besides adapter parameters and score, and limits of all three."""

    # minimized; the second name is that of earlier journals
    third_objective: Objective | None = Field(None, validation_alias=AliasChoices("third_objective", "third"))
    max_params: Count | None = None  # adapter parameters
    min_score: float | None = None
    max_memory: Count | None = None  # bytes, peak of GPU memory


class EarlierTrial(Spec):
    """A trial that a search starts from: of an earlier search, or of the catalogue.

    See `warm_start` and `catalogue` in `autorank.searching.sampling`.
    """

    search: str
    method: str
    settings: dict[str, Any]
    ranks: tuple[float, ...] = ()  # ranks of its values within its search, 0 to 1
    first: bool = False  # to be tried before all others

    @property
    def from_catalogue(self) -> bool:
        """Whether it is of the catalogue, which has settings but no ranks."""
        return not self.ranks


class SearchSpec(Spec):
    """A search: the task and training options of all trials, the methods, and how they are searched.

    Trials of `baseline` (plain LoRA, tuned in the same way) are plotted next to the front but are not part of it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=240)  # a directory; systems allow 255 bytes
    task: TaskSpec
    model: str | None = None
    training: TrainingSpec = TrainingSpec()
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    baseline: MethodSpec | None = None
    sampler: Sampler = SAMPLER
    halving: HalvingSpec | None = HalvingSpec()
    objectives: ObjectivesSpec = ObjectivesSpec()
    warm_start: tuple[EarlierTrial, ...] = ()
    catalogue: bool = True  # without `warm_start`, methods begin with settings of the catalogue
    seed: int = Field(SEED, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _methods_differ(self) -> SearchSpec:
        names = [entry.method for entry in self.entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"method {twice[0]!r} is listed twice; list each method once")
        return self

    @property
    def title(self) -> str:
        """Name, methods (or their number, if more than three) and task."""
        names = [entry.method for entry in self.methods]
        methods = ", ".join(names) if len(names) <= 3 else f"{len(names)} methods"
        return f"{self.name}: {methods} on {self.task.name}"

    @property
    def entries(self) -> tuple[MethodSpec, ...]:
        """The methods, the baseline last."""
        return self.methods if self.baseline is None else (*self.methods, self.baseline)

    @property
    def searched_settings(self) -> list[str]:
        """Names of the settings in the spaces of the methods."""
        return list(dict.fromkeys(name for entry in self.methods for name in entry.space))

    def train(self, method: str, settings: dict[str, Any]) -> TrainSpec:
        """Return the training run of a trial.

        Args:
            method: The method.
            settings: Its settings.

        Returns:
            The specification of the run.
        """
        return TrainSpec(
            task=self.task, model=self.model, method=method, settings=settings, training=self.training,
            max_slice_params=self.objectives.max_params,
        )  # fmt: skip
