"""What commands share: common options, what their texts mean, and the console."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from autorank.errors import AutorankError

if TYPE_CHECKING:
    from rich.console import Console

    from autorank.results.archive import Snapshot
    from autorank.results.journal import Journal
    from autorank.spec import Spec

S = TypeVar("S", bound="Spec")
DATA, TRAINING, FRONT, STOPPING, MACHINES = (
    "Task and data", "Training", "The front", "Sampling and early stopping", "Budget and machines",
)  # fmt: skip
RUNS = Path("runs")

Runs = Annotated[Path, typer.Option("--runs", help="Folder of all searches.")]
Name = Annotated[str, typer.Argument(help="A search's name.")]
TrackingURI = Annotated[
    str | None, typer.Option(help="MLflow. Default: MLFLOW_TRACKING_URI, or a file in the runs folder.")
]


def terminal() -> Console:
    """Where commands print."""
    from rich.console import Console

    return Console(highlight=False)


def open_search(name: str, runs: Path) -> tuple[Journal, Snapshot]:
    """The search of this name as it is now, to read it."""
    from autorank.results.journal import Journal
    from autorank.search.files import run_folder

    journal = Journal.open(run_folder(runs, name))
    return journal, journal.snapshot()


def seconds(text: str) -> float:
    """90, 90s, 30m, 4h, 1d as seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    return _positive(number, f"--time-budget {text!r} is not a time; write 90s, 30m or 4h.") * units[unit]


def parse_count(text: str, option: str = "--max-params") -> int:
    """150000, 150k, 1.2M as a number."""
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
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
