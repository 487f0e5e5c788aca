"""Options of a training run: method, settings and training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.defaults import (
    ACCUMULATE,
    MAX_GRAD_NORM,
    PRECISION,
    SEED,
    SLICE_SCORE,
    SLICES,
    TUNE_SPLIT,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    Precision,
    Quantization,
    SliceScore,
)
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.config_file import merge_settings
from autorank.options.data import DataOptions
from autorank.options.parsing import build_spec, int_or_auto, slice_count, split_names
from autorank.options.shared import DATA, TRAINING

if TYPE_CHECKING:
    from autorank.spec import TaskSpec, TrainingSpec


@dataclass(frozen=True, kw_only=True)
class RunOptions(DataOptions):
    """Method, task, data, base model and training, one field per option."""

    method: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Rank-allocation method; `search` takes several: A,B. `autorank methods` lists them.",
            metavar="NAME",
            autocompletion=completion.methods,
        ),
    ] = None
    tune_split: Annotated[
        float,
        typer.Option(
            help="Fraction of the training data held out to select on, up to 0.5; the validation split is then left "
            "for --confirm-seeds.",
            rich_help_panel=DATA,
        ),
    ] = TUNE_SPLIT
    set: Annotated[
        list[str] | Mapping[str, Any] | None,
        typer.Option(
            help="Fix a setting of the method. May be repeated.",
            metavar="KEY=VALUE",
            rich_help_panel=TRAINING,
            callback=merge_settings,
        ),
    ] = None
    epochs: Annotated[
        int | None, typer.Option(help="Number of training epochs. Default: the task's.", rich_help_panel=TRAINING)
    ] = None
    steps: Annotated[
        int | None, typer.Option(help="Number of optimizer steps, in place of --epochs.", rich_help_panel=TRAINING)
    ] = None
    batch_size: Annotated[
        int | str | None,
        typer.Option(
            help="Examples per optimizer step. Default: the task's. auto: the task's, with --accumulate auto.",
            parser=int_or_auto,
            metavar="N|auto",
            rich_help_panel=TRAINING,
        ),
    ] = None
    accumulate: Annotated[
        int | str,
        typer.Option(
            help="Micro-batches per optimizer step. auto: as few as fit on the GPU, measured once; 1 on a CPU.",
            parser=int_or_auto,
            metavar="N|auto",
            rich_help_panel=TRAINING,
        ),
    ] = ACCUMULATE
    eval_every: Annotated[
        int | None,
        typer.Option(help="Optimizer steps between evaluations. Default: one epoch.", rich_help_panel=TRAINING),
    ] = None
    warmup_ratio: Annotated[
        float,
        typer.Option(help="Fraction of the steps over which the learning rate rises from 0.", rich_help_panel=TRAINING),
    ] = WARMUP_RATIO
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.", rich_help_panel=TRAINING)] = WEIGHT_DECAY
    max_grad_norm: Annotated[
        float, typer.Option(help="Maximum norm to which gradients are clipped.", rich_help_panel=TRAINING)
    ] = MAX_GRAD_NORM
    precision: Annotated[
        Precision,
        typer.Option(
            help="Precision of training. auto: bf16 on GPUs that compute in it, fp16 on older ones, fp32 on CPUs.",
            rich_help_panel=TRAINING,
        ),
    ] = PRECISION
    quantize: Annotated[
        Quantization | None,
        typer.Option(
            help="Quantization of the frozen base model (NF4, as in QLoRA); needs a GPU. Default: none.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Recompute activations in the backward pass: less memory, slower steps, same results.",
            rich_help_panel=TRAINING,
        ),
    ] = False
    slices: Annotated[
        int | str,
        typer.Option(
            help="Smaller adapters cut from the trained one and scored after each evaluation: at most N, as many as "
            "cost 20% of training (auto), or none (off).",
            parser=slice_count,
            metavar="auto|N|off",
            rich_help_panel=TRAINING,
        ),
    ] = SLICES
    slice_score: Annotated[
        SliceScore,
        typer.Option(
            help="Which components a slice keeps first. energy: largest squared singular value per parameter; input: "
            "weighted by the layer's inputs; gradient: largest effect on the loss.",
            rich_help_panel=TRAINING,
        ),
    ] = SLICE_SCORE
    seed: Annotated[int, typer.Option(help="Random seed of training and of the sampler.", rich_help_panel=TRAINING)] = (
        SEED
    )

    def ignored(self) -> dict[str, str]:
        """Options that have no effect -> with which others."""
        ignored = {}
        if self.batch_size == "auto" and self.accumulate != "auto":
            ignored["accumulate"] = "with --batch-size auto"
        if self.steps is not None:
            ignored["epochs"] = "with --steps"
        if str(self.slices) in ("off", "False"):
            ignored["slice_score"] = "with --slices off"
        return ignored

    @property
    def methods(self) -> list[str]:
        """Return the names of the methods.

        Raises:
            AutorankError: --method is missing.
        """
        if self.method is None:
            raise AutorankError("--method is missing. Give --method NAME; `autorank methods` lists the names.")
        return split_names(self.method)

    @property
    def overrides(self) -> list[str]:
        """The fixed settings, as `KEY=VALUE` texts."""
        if isinstance(self.set, Mapping):
            return [f"{name}={json.dumps(value, default=_json_value)}" for name, value in self.set.items()]
        return list(self.set or ())

    def task_spec(self, tune_split: float | None = None) -> TaskSpec:
        """Return the task; see `DataOptions.task_spec`.

        Args:
            tune_split: Fraction of the training data that is held out to select on; None: the option's.

        Returns:
            The task.
        """
        return super().task_spec(self.tune_split if tune_split is None else tune_split)

    def training_spec(self) -> TrainingSpec:
        """Return the training options.

        Raises:
            AutorankError: A value is invalid.
        """
        from autorank.spec import TrainingSpec

        values = {name: getattr(self, name) for name in TrainingSpec.model_fields if hasattr(self, name)}
        if self.batch_size == "auto":
            values |= {"batch_size": None, "accumulate": "auto"}
        return build_spec(TrainingSpec, **values)


def _json_value(value: Any) -> Any:
    """NumPy's numbers as Python's, all else as text."""
    return value.item() if getattr(value, "ndim", None) == 0 else str(value)
