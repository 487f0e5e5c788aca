"""What commands share: options, what their texts mean, and the console."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from rich.console import Console

    from autorank.results.front import Point
    from autorank.results.journal import Journal
    from autorank.spec import Spec, TaskSpec, TrainingSpec

S = TypeVar("S", bound="Spec")
DATA, TRAINING = "Task and data", "Training"
RUNS = Path("runs")

Runs = Annotated[Path, typer.Option("--runs", help="Folder of all searches.")]
Name = Annotated[str, typer.Argument(help="A search's name.")]
TimeBudget = Annotated[str | None, typer.Option(help="Stop after: 90s, 30m, 4h.")]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Trials at a time. Default: as many as fit.")]
GPUs = Annotated[float | None, typer.Option(min=0, help="May be a fraction. Default: 1 where there are GPUs.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster. Default: a local one.")]
TrackingURI = Annotated[
    str | None, typer.Option(help="MLflow. Default: MLFLOW_TRACKING_URI, or a file in the runs folder.")
]


@dataclass(frozen=True)
class RunOptions:
    """One field an option; `with_run_options` puts them all on a command."""

    method: Annotated[str, typer.Option(help="Allocation method; `autorank methods` lists them.")]
    task: Annotated[
        str | None, typer.Option(help="Named task; `autorank tasks` lists them.", rich_help_panel=DATA)
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own file or folder (csv, jsonl, parquet), or a folder with a named task's splits.",
            rich_help_panel=DATA,
        ),
    ] = None
    text: Annotated[
        str | None, typer.Option(help="Your data's text column, or two: COL,COL.", rich_help_panel=DATA)
    ] = None
    label: Annotated[str | None, typer.Option(help="Your data's label column.", rich_help_panel=DATA)] = None
    model: Annotated[
        str | None, typer.Option(help="Base model: folder or Hub name. Default: the task's.", rich_help_panel=DATA)
    ] = None
    max_length: Annotated[int | None, typer.Option(help="Longest input, tokens.", rich_help_panel=DATA)] = None
    max_train_examples: Annotated[
        int | None, typer.Option(help="Train on this many examples only.", rich_help_panel=DATA)
    ] = None
    max_eval_examples: Annotated[
        int | None, typer.Option(help="Evaluate on this many examples only.", rich_help_panel=DATA)
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(help="Fix a setting of the method: KEY=VALUE. Repeatable.", rich_help_panel=TRAINING),
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Default: the task's.", rich_help_panel=TRAINING)] = None
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps, instead of epochs.", rich_help_panel=TRAINING)
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(help="Examples an optimizer step. Default: the task's.", rich_help_panel=TRAINING)
    ] = None
    accumulate: Annotated[
        int, typer.Option(help="Micro-batches that a step is cut into.", rich_help_panel=TRAINING)
    ] = 1
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations. Default: an epoch.", rich_help_panel=TRAINING)
    ] = None
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=TRAINING)
    ] = "auto"
    seed: Annotated[int, typer.Option(help="Of training and sampling.", rich_help_panel=TRAINING)] = 0

    def task_spec(self) -> TaskSpec:
        """The task asked for.

        Raises:
            AutorankError: options that do not go together.
        """
        from autorank.spec import TaskSpec

        own = (self.text is not None, self.label is not None)
        if any(own) and not (all(own) and self.data):
            raise AutorankError("Your own data need --data FILE, --text COL[,COL] and --label COL, all three.")
        if self.task is None and not any(own):
            raise AutorankError("Say what to learn: --task NAME, or --data FILE --text COL[,COL] --label COL.")
        data = self.data.expanduser().absolute() if self.data else None
        return _built(
            TaskSpec, name=self.task or (data.stem if data else ""), data=data, label=self.label,
            text=tuple(part.strip() for part in (self.text or "").split(",") if part.strip()),
            max_length=self.max_length, max_train_examples=self.max_train_examples,
            max_eval_examples=self.max_eval_examples,
        )  # fmt: skip

    def training_spec(self) -> TrainingSpec:
        """How it is trained."""
        from autorank.spec import TrainingSpec

        names = ("epochs", "steps", "batch_size", "accumulate", "eval_every", "precision", "seed")
        return _built(TrainingSpec, **{name: getattr(self, name) for name in names})

    def model_name(self) -> str | None:
        """The base model, a folder as its full path."""
        if self.model and Path(self.model).expanduser().is_dir():
            return str(Path(self.model).expanduser().absolute())
        return self.model


def _built(kind: type[S], **values: Any) -> S:
    from pydantic import ValidationError

    from autorank.spec import explain

    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(error, "The command") from None


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument is a RunOptions, one option for each of its fields."""
    hints = get_type_hints(RunOptions, include_extras=True)
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name],
            default=inspect.Parameter.empty if field.name == "method" else field.default,
        )
        for field in fields(RunOptions)
    ]  # fmt: skip

    @wraps(command)
    def wrapper(**given: Any) -> None:
        run = RunOptions(**{field.name: given.pop(field.name) for field in fields(RunOptions)})
        command(run, **given)

    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*added, *own])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*added, *own]}
    return wrapper


def terminal() -> Console:
    """Where commands print."""
    from rich.console import Console

    return Console(highlight=False)


def open_search(name: str, runs: Path) -> tuple[Journal, list[Point]]:
    """The search of this name, to read it, and its front."""
    from autorank.results.front import front
    from autorank.results.journal import Journal
    from autorank.search.files import run_folder

    journal = Journal.open(run_folder(runs, name))
    return journal, front(journal.trials())


def seconds(text: str) -> float:
    """90, 90s, 30m, 4h, 1d as seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    return _positive(number, f"--time-budget {text!r} is not a time; write 90s, 30m or 4h.") * units[unit]


def parse_count(text: str) -> int:
    """150000, 150k, 1.2M as a number."""
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "")
    value = _positive(number, f"--max-params {text!r} is not a count; write 150000, 150k or 1.2M.")
    return int(value * units.get(unit, 1))


def _positive(text: str, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise AutorankError(complaint) from None
    if not 0 < value < float("inf"):
        raise AutorankError(complaint)
    return value
