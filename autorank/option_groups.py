"""Options in groups, each a dataclass with a field an option: what is trained, how it is searched, with what."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from autorank.errors import AutorankError
from autorank.options import RUNS, Runs, TrackingURI, parse_count, seconds

if TYPE_CHECKING:
    from autorank.search.run import Budget
    from autorank.spec import Spec, TaskSpec, TrainingSpec

S = TypeVar("S", bound="Spec")
DATA, TRAINING, FRONT, STOPPING, MACHINES = (
    "Task and data", "Training", "The front", "Sampling and early stopping", "Budget and machines",
)  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """One field an option; `with_run_options` puts them all on a command."""

    method: Annotated[
        str, typer.Option(help="Allocation method, or several: A,B; `autorank methods` lists them.")
    ]
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
    tune_split: Annotated[
        float,
        typer.Option(
            help="Select on this part of the training data, held out; validation is left for --confirm-seeds.",
            rich_help_panel=DATA,
        ),
    ] = 0.0
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

    @property
    def methods(self) -> list[str]:
        """The methods asked for."""
        return [name.strip() for name in self.method.split(",") if name.strip()]

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
            max_eval_examples=self.max_eval_examples, tune_split=self.tune_split,
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


@dataclass(frozen=True)
class SearchOptions:
    """How a search goes about it, and what it is after."""

    name: Annotated[str | None, typer.Option(help="Default: METHOD-TASK.")] = None
    space: Annotated[Path | None, typer.Option(help="Search space, YAML. Default: the method's.")] = None
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Tune plain LoRA too, to compare.", rich_help_panel=FRONT)
    ] = True
    objective: Annotated[
        str | None,
        typer.Option(help="A third one, to be small: nonzero_params, seconds or memory.", rich_help_panel=FRONT),
    ] = None
    max_params: Annotated[
        str | None, typer.Option(help="No larger adapters: 150000, 150k, 1.2M.", rich_help_panel=FRONT)
    ] = None
    min_score: Annotated[
        float | None, typer.Option(help="No point that scores less.", rich_help_panel=FRONT)
    ] = None
    max_memory: Annotated[
        str | None, typer.Option(help="No point that took more GPU memory: 800M, 12G bytes.", rich_help_panel=FRONT)
    ] = None
    sampler: Annotated[str, typer.Option(help="tpe, nsga2, gp or random.", rich_help_panel=STOPPING)] = "tpe"
    scheduler: Annotated[
        str, typer.Option(help="asha stops trials early; none lets all end.", rich_help_panel=STOPPING)
    ] = "asha"
    grace: Annotated[
        int | None,
        typer.Option(
            min=1, help="Evaluations before a trial may be stopped. Default: one in --reduction-factor of a run's.",
            rich_help_panel=STOPPING,
        ),
    ] = None
    reduction_factor: Annotated[
        int, typer.Option(min=2, help="One in so many goes on at a rung.", rich_help_panel=STOPPING)
    ] = 3
    brackets: Annotated[
        int, typer.Option(min=1, help="Each starts stopping a rung later.", rich_help_panel=STOPPING)
    ] = 1

    def values(self) -> dict[str, Any]:
        """The fields of a `SearchSpec` that these options fill.

        Raises:
            AutorankError: a value that is refused.
        """
        from autorank.spec import HalvingSpec, ObjectivesSpec

        if self.scheduler not in ("asha", "none"):
            raise AutorankError(f"There is no scheduler {self.scheduler!r}; there are: asha, none.")
        return {
            "sampler": self.sampler,
            "control": self.control,
            "halving": None if self.scheduler == "none" else _built(
                HalvingSpec, grace=self.grace, factor=self.reduction_factor, brackets=self.brackets
            ),
            "objectives": _built(
                ObjectivesSpec, third=self.objective, min_score=self.min_score,
                max_params=None if self.max_params is None else parse_count(self.max_params),
                max_memory=None if self.max_memory is None else parse_count(self.max_memory, "--max-memory"),
            ),
        }  # fmt: skip


@dataclass(frozen=True)
class BudgetOptions:
    """What a search may use, and where it keeps what it finds."""

    trials: Annotated[
        str | None,
        typer.Option(
            help="Trials in all, those of earlier starts included, or +20: so many more. Default: 20, or as before.",
            rich_help_panel=MACHINES,
        ),
    ] = None
    time_budget: Annotated[
        str | None, typer.Option(help="Stop after: 90s, 30m, 4h.", rich_help_panel=MACHINES)
    ] = None
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. Default: as many as fit.", rich_help_panel=MACHINES)
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(min=0, help="May be a fraction. Default: 1 where there are GPUs.", rich_help_panel=MACHINES),
    ] = None
    workers_per_trial: Annotated[
        int, typer.Option(min=1, help="Workers that share each step's batch (Ray Train).", rich_help_panel=MACHINES)
    ] = 1
    max_retries: Annotated[
        int, typer.Option(min=0, help="Of a trial whose process died.", rich_help_panel=MACHINES)
    ] = 3
    confirm_seeds: Annotated[
        int | None,
        typer.Option(min=0, help="In the end, train the front again with so many seeds.", rich_help_panel=FRONT),
    ] = None
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: a local one.", rich_help_panel=MACHINES)
    ] = None
    tracking_uri: TrackingURI = None
    runs: Runs = RUNS

    def budget(self) -> Budget:
        """What a search may use.

        Raises:
            AutorankError: a value that is refused.
        """
        from autorank.search.run import Budget

        text = self.trials or ""
        number = text.removeprefix("+")
        if self.trials is not None and (not number.isdigit() or int(number) < 1):
            raise AutorankError(f"--trials {text!r} is not a number of trials; write 30, or +20 for 20 more.")
        return Budget(
            trials=int(number) if number else None, more=text.startswith("+"),
            seconds=None if self.time_budget is None else seconds(self.time_budget),
            concurrency=self.concurrency, gpus_per_trial=self.gpus_per_trial, workers=self.workers_per_trial,
            retries=self.max_retries, confirm=self.confirm_seeds, address=self.address,
        )  # fmt: skip


def _built(kind: type[S], **values: Any) -> S:
    from pydantic import ValidationError

    from autorank.spec import explain

    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(error, "The command") from None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of its arguments that are groups (the dataclasses above)."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    known = (RunOptions, SearchOptions, BudgetOptions)
    groups = {each.name: each.annotation for each in own if each.annotation in known}
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY,
            annotation=get_type_hints(group, include_extras=True)[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for group in groups.values() for field in fields(group)
    ]  # fmt: skip

    @wraps(command)
    def wrapper(**given: Any) -> None:
        built = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**built, **given)

    rest = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name not in groups]
    parameters = [*options, *rest]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
