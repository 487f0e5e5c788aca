"""Options of a training: what is learned, how, and with which base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.errors import AutorankError
from autorank.options import DATA, TRAINING, built, completion, listed, place, whole_or_auto
from autorank.options.config_file import merged

if TYPE_CHECKING:
    from autorank.spec import TaskSpec, TrainingSpec


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is learned, how, and with which base: a field an option."""

    method: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Allocation method, or several: A,B; `autorank methods` lists them.", autocompletion=completion.methods
        ),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            help="Named task; `autorank tasks` lists them.", rich_help_panel=DATA, autocompletion=completion.tasks
        ),
    ] = None
    data: Annotated[
        Path | str | None,
        typer.Option(
            help="Your own file or folder (csv, jsonl, parquet), or a folder with a named task's splits.",
            rich_help_panel=DATA,
        ),
    ] = None
    text: Annotated[
        str | Sequence[str] | None,
        typer.Option(help="Your data's text column, or two: COL,COL.", rich_help_panel=DATA),
    ] = None
    label: Annotated[str | None, typer.Option(help="Your data's label column.", rich_help_panel=DATA)] = None
    prompt: Annotated[
        str | None, typer.Option(help="Text to text: your data's column of prompts.", rich_help_panel=DATA)
    ] = None
    completion: Annotated[
        str | None, typer.Option(help="Text to text: the column of what is to be written.", rich_help_panel=DATA)
    ] = None
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Prompts in the chat template. Default: if any.", rich_help_panel=DATA),
    ] = None
    metric: Annotated[
        str | None, typer.Option(help="Which of the task's metrics is the score.", rich_help_panel=DATA)
    ] = None
    model: Annotated[
        str | Path | None,
        typer.Option(help="Base model: folder or Hub name. Default: the task's.", rich_help_panel=DATA),
    ] = None
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run code that comes with the model. Read it first.", rich_help_panel=DATA
        ),
    ] = False
    max_length: Annotated[int | None, typer.Option(help="Longest input, tokens.", rich_help_panel=DATA)] = None
    max_train_examples: Annotated[
        int | None, typer.Option(help="Train on this many examples only.", rich_help_panel=DATA)
    ] = None
    max_eval_examples: Annotated[
        int | None, typer.Option(help="Evaluate on this many examples only.", rich_help_panel=DATA)
    ] = None
    tune_split: Annotated[
        float,
        typer.Option(
            help="Select on this part of the training data, held out; validation is left for --confirm-seeds.",
            rich_help_panel=DATA,
        ),
    ] = 0.0
    set: Annotated[
        list[str] | Mapping[str, Any] | None,
        typer.Option(
            help="Fix a setting of the method: KEY=VALUE. Repeatable.", rich_help_panel=TRAINING, callback=merged
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)] = None
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.", rich_help_panel=TRAINING)] = (
        None
    )
    batch_size: Annotated[
        int | str | None,
        typer.Option(
            help="Examples an optimizer step. Default: the task's. auto: the task's, with --accumulate auto.",
            parser=whole_or_auto,
            metavar="N|auto",
            rich_help_panel=TRAINING,
        ),
    ] = None
    accumulate: Annotated[
        int | str,
        typer.Option(
            help="Micro-batches that a step is cut into. auto: as few as the GPU's memory allows, found once.",
            parser=whole_or_auto,
            metavar="N|auto",
            rich_help_panel=TRAINING,
        ),
    ] = 1
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations. Default: an epoch.", rich_help_panel=TRAINING)
    ] = None
    warmup_ratio: Annotated[
        float, typer.Option(help="Part of the steps in which the learning rate rises.", rich_help_panel=TRAINING)
    ] = 0.06
    weight_decay: Annotated[float, typer.Option(help="AdamW's.", rich_help_panel=TRAINING)] = 0.1
    max_grad_norm: Annotated[float, typer.Option(help="Gradients are clipped to it.", rich_help_panel=TRAINING)] = 1.0
    precision: Annotated[
        str,
        typer.Option(
            help="auto, fp32, bf16 or fp16.",
            rich_help_panel=TRAINING,
            autocompletion=completion.one_of("auto", "fp32", "bf16", "fp16"),
        ),
    ] = "auto"
    quantize: Annotated[
        str | None, typer.Option(help="4bit: the frozen base in NF4 (QLoRA); needs a GPU.", rich_help_panel=TRAINING)
    ] = None
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Less memory, one more forward pass a step, same results.",
            rich_help_panel=TRAINING,
        ),
    ] = False
    seed: Annotated[int, typer.Option(help="Of training and sampling.", rich_help_panel=TRAINING)] = 0

    @property
    def methods(self) -> list[str]:
        """The methods asked for. Raises AutorankError if --method is not given."""
        if self.method is None:
            raise AutorankError("Say how to allocate ranks: --method NAME; `autorank methods` lists them.")
        return listed(self.method)

    @property
    def overrides(self) -> list[str]:
        """The settings that are fixed, as `KEY=VALUE` texts."""
        if isinstance(self.set, Mapping):
            return [f"{name}={json.dumps(value, default=str)}" for name, value in self.set.items()]
        return list(self.set or ())

    def task_spec(self) -> TaskSpec:
        """The task asked for.

        Raises:
            AutorankError: options that do not go together.
        """
        from autorank.spec import TaskSpec

        own = (self.text is not None, self.label is not None)
        if any(own) and not (all(own) and self.data):
            raise AutorankError("Your own data need --data FILE, --text COL[,COL] and --label COL, all three.")
        pairs = (self.prompt is not None, self.completion is not None)
        if any(pairs) and (any(own) or not (all(pairs) and self.data)):
            raise AutorankError(
                "Your own text-to-text data need --data FILE, --prompt COL and --completion COL, all three, and "
                "neither --text nor --label."
            )
        if self.task is None and not any(own + pairs):
            raise AutorankError(
                "Say what to learn: --task NAME, or --data FILE with --text COL[,COL] --label COL, or with "
                "--prompt COL --completion COL."
            )
        data = self.data_path()
        return built(
            TaskSpec, name=self.task or (data.stem if data else ""), data=data, label=self.label,
            text=tuple(listed(self.text)),
            prompt=self.prompt, completion=self.completion, metric=self.metric, chat=self.chat,
            max_length=self.max_length, max_train_examples=self.max_train_examples,
            max_eval_examples=self.max_eval_examples, tune_split=self.tune_split,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip

    def training_spec(self) -> TrainingSpec:
        """How it is trained."""
        from autorank.spec import TrainingSpec

        asked = {name: getattr(self, name) for name in TrainingSpec.model_fields}
        if self.batch_size == "auto":
            asked |= {"batch_size": None, "accumulate": "auto"}
        return built(TrainingSpec, **asked)

    def data_path(self) -> Path | None:
        """The user's own data, as a full path."""
        return place(self.data).absolute() if self.data else None

    def model_name(self) -> str | None:
        """The base model, a folder as its full path."""
        if self.model and Path(self.model).expanduser().is_dir():
            return str(Path(self.model).expanduser().absolute())
        return None if self.model is None else str(self.model)
