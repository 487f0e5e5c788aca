"""Options that several commands share, and the panels of the help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.options import completion
from autorank.options.parsing import expand

if TYPE_CHECKING:
    from autorank.trials.journal.journal import Journal
    from autorank.trials.snapshot import Snapshot

DATA, TRAINING, FRONT, STOPPING, MACHINES = (
    "Task and data", "Training", "Objectives and front", "Sampling and early stopping", "Budget and machines",
)  # fmt: skip
RUNS = Path("runs")
RUNS_OPTION = typer.Option("--runs", help="Directory of all searches.", parser=expand, metavar="DIR")
Runs = Annotated[Path, RUNS_OPTION]
Name = Annotated[str, typer.Argument(help="Name of a search.", autocompletion=completion.searches)]
TrackingURI = Annotated[
    str | None,
    typer.Option(
        help="Address of the MLflow store. Default: MLFLOW_TRACKING_URI, else the one that the search used before, "
        "else mlflow.db in --runs.",
        metavar="URI",
    ),
]


def read_search(name: str, runs: Path) -> tuple[Journal, Snapshot]:
    """Return the journal of a search, opened for reading, and a snapshot of the search.

    Args:
        name: The search's name.
        runs: The directory of all searches.

    Returns:
        The journal and the snapshot.

    Raises:
        AutorankError: There is no such search, or its journal cannot be read.
    """
    from autorank.trials.journal.journal import Journal
    from autorank.trials.retention import run_folder

    journal = Journal.open(run_folder(runs, name))
    return journal, journal.snapshot()
