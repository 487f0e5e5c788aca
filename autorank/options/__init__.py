"""What commands share: common options, what their texts mean, and the console."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from autorank.errors import AutorankError
from autorank.options import completion

if TYPE_CHECKING:
    from rich.console import Console

    from autorank.spec import Spec
    from autorank.trials.journal import Journal
    from autorank.trials.snapshot import Snapshot

S = TypeVar("S", bound="Spec")
DATA, TRAINING, FRONT, STOPPING, MACHINES = (
    "Task and data", "Training", "The front", "Sampling and early stopping", "Budget and machines",
)  # fmt: skip
RUNS = Path("runs")


def place(path: Path | str) -> Path:
    """The file or folder of this name, where `~` is the user's own, which shells leave to us in --runs=~/x."""
    return Path(os.path.expanduser(path))


RUNS_OPTION = typer.Option("--runs", help="Folder of all searches.", parser=place, metavar="DIR")
Runs = Annotated[Path, RUNS_OPTION]
Name = Annotated[str, typer.Argument(help="A search's name.", autocompletion=completion.searches)]
TrackingURI = Annotated[
    str | None,
    typer.Option(help="MLflow. Default: MLFLOW_TRACKING_URI, the search's last, or a file in the runs folder."),
]


def terminal(quiet: bool = False) -> Console:
    """Where commands print: paths and others' texts as they are, brackets included, and in one piece."""
    from rich.console import Console

    return Console(highlight=False, force_jupyter=False, quiet=quiet, markup=False, soft_wrap=True)


def read_search(name: str, runs: Path) -> tuple[Journal, Snapshot]:
    """The journal of the search of this name, to read it, and the search as it is now."""
    from autorank.trials.journal import Journal
    from autorank.trials.retention import run_folder

    journal = Journal.open(run_folder(runs, name))
    return journal, journal.snapshot()


def listed(names: str | Sequence[str] | None) -> list[str]:
    """`A,B` as a list; from Python it may be one already."""
    parts = names.split(",") if isinstance(names, str) else names or ()
    return [part.strip() for part in parts if part.strip()]


def which(
    knee: bool, max_params: str | int | None, min_score: float | None, trial: int | None, step: int | None
) -> dict[str, Any]:
    """Which point of a front is meant, as `autorank.trials.front.pick` takes it.

    Raises:
        AutorankError: --knee beside another choice, or --step without --trial.
    """
    if knee and any(each is not None for each in (max_params, min_score, trial, step)):
        raise AutorankError("--knee names a point already; leave out --max-params, --min-score, --trial and --step.")
    if step is not None and trial is None:
        raise AutorankError(f"--step {step} is of which trial? Name it: --trial N --step {step}.")
    most = None if max_params is None else parse_count(max_params)
    return {"trial": trial, "step": step, "max_params": most, "min_score": min_score}


def seconds(time: str | float) -> float:
    """90, 90s, 30m, 4h, 1d as seconds."""
    units, text = {"s": 1, "m": 60, "h": 3600, "d": 86400}, str(time)
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    return _positive(number, f"--time-budget {text!r} is not a time; write 90s, 30m or 4h.") * units[unit]


def parse_count(count: str | float, option: str = "--max-params") -> int:
    """150000, 150k, 1.2M as a number."""
    units, text = {"k": 1e3, "M": 1e6, "G": 1e9}, str(count)
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "")
    value = _positive(number, f"{option} {text!r} is not a count; write 150000, 150k or 1.2M.")
    return int(value * units.get(unit, 1))


def whole_or_auto(text: str) -> int | str:
    """`auto`, or a whole number."""
    if str(text) == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor auto.") from None


def _positive(text: str, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise AutorankError(complaint) from None
    if not 0 < value < float("inf"):
        raise AutorankError(complaint)
    return value


def built(kind: type[S], **values: Any) -> S:
    """A spec of these values. Raises AutorankError with all that is wrong with them."""
    from pydantic import ValidationError

    from autorank.spec import explain

    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(error, "The command") from None
