"""Options of a training run: task, data, base model and training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.defaults import MAX_GRAD_NORM, WARMUP_RATIO, WEIGHT_DECAY, Precision, Quantization, SliceScore
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.config_file import merge_settings
from autorank.options.parsing import build_spec, expand, int_or_auto, slice_count, split_names
from autorank.options.shared import DATA, TRAINING

if TYPE_CHECKING:
    from autorank.spec import TaskSpec, TrainingSpec


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Task, data, base model and training, one field per option."""

    method: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Rank-allocation method, or several: A,B. `autorank methods` lists them.",
            metavar="NAME",
            autocompletion=completion.methods,
        ),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            help="Named task. `autorank tasks` lists them.",
            metavar="NAME",
            rich_help_panel=DATA,
            autocompletion=completion.tasks,
        ),
    ] = None
    data: Annotated[
        Path | str | None,
        typer.Option(
            help="Your data: a file or directory (csv, jsonl, parquet), or a directory with the splits of --task.",
            metavar="PATH",
            rich_help_panel=DATA,
        ),
    ] = None
    text: Annotated[
        str | Sequence[str] | None,
        typer.Option(help="Text column of your data, or two: COL,COL.", metavar="COL", rich_help_panel=DATA),
    ] = None
    label: Annotated[
        str | None, typer.Option(help="Label column of your data.", metavar="COL", rich_help_panel=DATA)
    ] = None
    prompt: Annotated[
        str | None,
        typer.Option(help="Prompt column of your text-to-text data.", metavar="COL", rich_help_panel=DATA),
    ] = None
    completion: Annotated[
        str | None,
        typer.Option(help="Target text column of your text-to-text data.", metavar="COL", rich_help_panel=DATA),
    ] = None
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Put prompts into the tokenizer's chat template. Default: if it has one.",
            rich_help_panel=DATA,
        ),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(
            help="The task's metric that is the score. Default: the first that `autorank tasks` lists.",
            metavar="NAME",
            rich_help_panel=DATA,
        ),
    ] = None
    model: Annotated[
        str | Path | None,
        typer.Option(
            help="Base model: a directory or a name on the Hub. Default: the task's.",
            metavar="MODEL",
            rich_help_panel=DATA,
        ),
    ] = None
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the Python code that comes with the model. Read the code first.",
            rich_help_panel=DATA,
        ),
    ] = False
    max_length: Annotated[
        int | None, typer.Option(help="Maximum input length in tokens. Default: the task's.", rich_help_panel=DATA)
    ] = None
    max_train_examples: Annotated[
        int | None, typer.Option(help="Maximum number of training examples. Default: all.", rich_help_panel=DATA)
    ] = None
    max_eval_examples: Annotated[
        int | None,
        typer.Option(help="Maximum number of examples of each evaluation. Default: all.", rich_help_panel=DATA),
    ] = None
    tune_split: Annotated[
        float,
        typer.Option(
            help="Fraction of the training data held out to select on, up to 0.5; the validation split is then left "
            "for --confirm-seeds.",
            rich_help_panel=DATA,
        ),
    ] = 0.0
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
            help="Micro-batches per optimizer step. auto: as few as the GPU's memory allows, measured once.",
            parser=int_or_auto,
            metavar="N|auto",
            rich_help_panel=TRAINING,
        ),
    ] = 1
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
            help="Floating-point precision of training. auto: bf16 on GPUs that support it, else fp32.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto"
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
            "cost 20 % of training (auto), or none (off).",
            parser=slice_count,
            metavar="auto|N|off",
            rich_help_panel=TRAINING,
        ),
    ] = "auto"
    slice_score: Annotated[
        SliceScore,
        typer.Option(
            help="Which components a slice keeps first: those of most energy per parameter, energy weighted by the "
            "layer's inputs, or gradient sensitivity.",
            rich_help_panel=TRAINING,
        ),
    ] = "energy"
    seed: Annotated[int, typer.Option(help="Random seed of training and of the sampler.", rich_help_panel=TRAINING)] = 0

    @property
    def methods(self) -> list[str]:
        """The names of the methods. Raises AutorankError if --method is missing."""
        if self.method is None:
            raise AutorankError("--method is missing. Give --method NAME; `autorank methods` lists the names.")
        return split_names(self.method)

    @property
    def overrides(self) -> list[str]:
        """The fixed settings, as `KEY=VALUE` texts."""
        if isinstance(self.set, Mapping):
            return [f"{name}={json.dumps(value, default=str)}" for name, value in self.set.items()]
        return list(self.set or ())

    def task_spec(self) -> TaskSpec:
        """Return the task.

        Raises:
            AutorankError: The options are incomplete or contradict each other.
        """
        from autorank.spec import TaskSpec

        labelled = (self.text is not None, self.label is not None)
        if any(labelled) and not (all(labelled) and self.data):
            raise AutorankError("Your own data need all of --data FILE, --text COL[,COL] and --label COL.")
        text_to_text = (self.prompt is not None, self.completion is not None)
        if any(text_to_text) and (any(labelled) or not (all(text_to_text) and self.data)):
            raise AutorankError(
                "Your own text-to-text data need all of --data FILE, --prompt COL and --completion COL, and neither "
                "--text nor --label."
            )
        if self.task is None and not any(labelled + text_to_text):
            raise AutorankError(
                "The task is missing. Give --task NAME, or --data FILE with --text COL[,COL] --label COL, or with "
                "--prompt COL --completion COL."
            )
        data = self.data_path()
        return build_spec(
            TaskSpec, name=self.task or (data.stem if data else ""), data=data, label=self.label,
            text=tuple(split_names(self.text)),
            prompt=self.prompt, completion=self.completion, metric=self.metric, chat=self.chat,
            max_length=self.max_length, max_train_examples=self.max_train_examples,
            max_eval_examples=self.max_eval_examples, tune_split=self.tune_split,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip

    def training_spec(self) -> TrainingSpec:
        """Return the training options.

        Raises:
            AutorankError: A value is invalid.
        """
        from autorank.spec import TrainingSpec

        values = {name: getattr(self, name) for name in TrainingSpec.model_fields}
        if self.batch_size == "auto":
            values |= {"batch_size": None, "accumulate": "auto"}
        return build_spec(TrainingSpec, **values)

    def data_path(self) -> Path | None:
        """Return the absolute path of the user's data."""
        return expand(self.data).absolute() if self.data else None

    def model_name(self) -> str | None:
        """Return the base model: the absolute path of a directory, or a name on the Hub."""
        if self.model and expand(self.model).is_dir():
            return str(expand(self.model).absolute())
        return None if self.model is None else str(self.model)
