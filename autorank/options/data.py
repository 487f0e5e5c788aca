"""Options that choose the task, its data and the base model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.defaults import COLUMN_OPTIONS, TUNE_SPLIT, LabelType
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.data_object import DataObject
from autorank.options.parsing import build_spec, expand, split_names
from autorank.options.shared import DATA

if TYPE_CHECKING:
    from autorank.spec import TaskSpec


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Task, data and base model, one field per option."""

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
        str | Path | DataObject | None,
        typer.Option(
            help="Your data, or the splits of --task: a file, directory or 'pattern' (csv, tsv, json, jsonl, parquet, "
            "arrow), an address (s3://...), or a dataset on the Hub (owner/name or owner/name:config).",
            metavar="DATA",
            rich_help_panel=DATA,
        ),
    ] = None
    train_split: Annotated[
        str | None,
        typer.Option(help="Split of your data to train on. Default: train.", metavar="NAME", rich_help_panel=DATA),
    ] = None
    eval_split: Annotated[
        str | None,
        typer.Option(
            help="Split of your data to evaluate on. Default: validation, or a tenth of the training examples.",
            metavar="NAME",
            rich_help_panel=DATA,
        ),
    ] = None
    text: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Text column of your data, or two: COL,COL. Nested columns with dots: translation.en.",
            metavar="COL",
            rich_help_panel=DATA,
        ),
    ] = None
    label: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Label column of your data. Several, COL,COL, are multi-label: each holds 0 or 1.",
            metavar="COL",
            rich_help_panel=DATA,
        ),
    ] = None
    label_type: Annotated[
        LabelType | None,
        typer.Option(
            help="What labels are: classes, or numbers to predict. Default: numbers if any label has a fraction.",
            rich_help_panel=DATA,
        ),
    ] = None
    prompt: Annotated[
        str | Sequence[str] | None,
        typer.Option(
            help="Prompt column of your text-to-text data. Several (COL,COL) are joined with empty lines.",
            metavar="COL",
            rich_help_panel=DATA,
        ),
    ] = None
    completion: Annotated[
        str | None,
        typer.Option(help="Target text column of your text-to-text data.", metavar="COL", rich_help_panel=DATA),
    ] = None
    messages: Annotated[
        str | None,
        typer.Option(
            help="Column of conversations (OpenAI's role and content, ShareGPT's from and value). The loss is on the "
            "assistant's turns.",
            metavar="COL",
            rich_help_panel=DATA,
        ),
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
        str | Callable[..., float] | None,
        typer.Option(
            help="Metric that is the score: one of the task's kind, or a function of your own as FILE.py:FUNCTION "
            "(docs/tasks.md). Default: the first that `autorank tasks` lists.",
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
        typer.Option(
            help="Maximum number of examples of each evaluation. Default: all; for text to text "
            "1,000, or 200 if texts are generated.",
            rich_help_panel=DATA,
        ),
    ] = None

    def task_spec(self, tune_split: float = TUNE_SPLIT) -> TaskSpec:
        """Return the task.

        Args:
            tune_split: Fraction of the training data that is held out to select on.

        Returns:
            The task.

        Raises:
            AutorankError: The options are incomplete or contradict each other.
        """
        from autorank.spec import TaskSpec
        from autorank.tasks import own_metric, registry
        from autorank.tasks.reading.location import short_name

        columns_given = [f"--{name}" for name in COLUMN_OPTIONS if getattr(self, name) is not None]
        if self.task in registry.TASKS and columns_given:
            raise AutorankError(
                f"--task {self.task} cannot be combined with {', '.join(columns_given)}: a named task has columns of "
                "its own. Omit --task to train on your own columns, or omit the columns."
            )
        data = self.data_path()
        columns = {"prompt": tuple(split_names(self.prompt)), "completion": self.completion, "messages": self.messages}
        if self.task is None and not columns_given:
            columns |= self._usual_columns(data)
        labels = tuple(split_names(self.label))
        spec = build_spec(
            TaskSpec, name=self.task or (short_name(data) if data else ""), data=data, label=",".join(labels) or None,
            label_columns=labels if len(labels) > 1 else (),
            train_split=self.train_split, eval_split=self.eval_split, label_type=self.label_type,
            text=tuple(split_names(self.text)),
            **columns, **own_metric.parse(self.metric), chat=self.chat,
            max_length=self.max_length, max_train_examples=self.max_train_examples,
            max_eval_examples=self.max_eval_examples, tune_split=tune_split,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip
        registry.check(spec)
        return spec

    def _usual_columns(self, data: str | None) -> dict[str, Any]:
        """The columns of text-to-text data in a widespread form, if no columns are named."""
        from autorank.tasks.own_data import detect_columns

        columns = detect_columns(data, self.train_split) if data else {}
        if columns:
            return columns
        raise AutorankError(
            "The task is missing. Give --task NAME, or --data FILE with --text COL[,COL] --label COL, with "
            "--prompt COL --completion COL, or with --messages COL."
        )

    def data_path(self) -> str | None:
        """Return the absolute path of the user's data, its address, or its name on the Hub.

        Data of Python code is written to the cache directory.
        """
        from autorank.tasks.reading.location import is_path

        if isinstance(self.data, DataObject):
            return self._stored
        if not self.data:
            return None
        data = os.path.expanduser(os.fspath(self.data))  # a Path would shorten the // of addresses
        return str(Path(data).absolute()) if is_path(data) else data

    @cached_property
    def _stored(self) -> str:
        """The path to which data of Python code is written: the named columns, or all if conversations are read."""
        from autorank.tasks.prompts.conversation import SYSTEM, TOOLS
        from autorank.tasks.reading.python_objects import store

        columns = (self.text, self.label, self.prompt, self.completion) if self.messages is None else ()
        names = [name for option in columns for name in split_names(option)]
        return store(self.data, names, optional=(TOOLS, SYSTEM) if self.completion else ())

    def model_name(self) -> str | None:
        """Return the base model: the absolute path of a directory, or a name on the Hub."""
        if self.model and os.path.isdir(expand(self.model)):  # not Path.is_dir, which raises OSError for long names
            return str(expand(self.model).absolute())
        return None if self.model is None else str(self.model)
