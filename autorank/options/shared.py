"""Options that several commands share: names, directories, the choice of a point; and the panels of the help."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.defaults import RUNS
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.parsing import expand, parse_count

if TYPE_CHECKING:
    from autorank.trials.journal.journal import Journal
    from autorank.trials.snapshot import Snapshot

DATA, TRAINING, FRONT, STOPPING, MACHINES = (
    "Task and data", "Training", "Objectives and front", "Sampling and early stopping", "Budget and machines",
)  # fmt: skip
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


FORM, DESTINATION = "Form", "Destination"  # panels of the help
MinGainProbability = Annotated[
    float | None,
    typer.Option(
        help="Choose the smallest point whose probability of beating plain LoRA with at most as many parameters is at "
        "least P, for example 0.9.",
        metavar="P",
    ),
]


@dataclass(frozen=True, kw_only=True)
class PointOptions:
    """Options that choose a point of a front, by default its knee."""

    knee: Annotated[bool, typer.Option("--knee", help="Choose the front's knee (the default).")] = False
    max_params: Annotated[
        str | int | None,
        typer.Option(
            help="Choose the best point with at most this many adapter parameters: 150000, 150k, 1.2M.", metavar="COUNT"
        ),
    ] = None
    min_score: Annotated[float | None, typer.Option(help="Choose the smallest point with at least this score.")] = None
    min_gain_probability: MinGainProbability = None
    trial: Annotated[int | None, typer.Option(help="Choose the best point of this trial on the front.")] = None
    step: Annotated[int | None, typer.Option(help="With --trial: choose its evaluation at this optimizer step.")] = None

    def choice(self) -> dict[str, Any]:
        """Return the keyword arguments of `autorank.trials.selection.pick`; all are None if no condition is given.

        Raises:
            AutorankError: --knee together with another choice, --step without --trial, or no probability.
        """
        conditions = {
            "max_params": self.max_params, "min_score": self.min_score,
            "min_gain_probability": self.min_gain_probability, "trial": self.trial, "step": self.step,
        }  # fmt: skip
        if self.knee and any(value is not None for value in conditions.values()):
            raise AutorankError(
                "--knee already chooses a point. Leave out --max-params, --min-score, --min-gain-probability, --trial "
                "and --step."
            )
        probability = self.min_gain_probability
        if probability is not None and not 0 < probability <= 1:
            raise AutorankError(f"--min-gain-probability {probability:g}: expected a number above 0, at most 1.")
        if self.step is not None and self.trial is None:
            raise AutorankError(f"--step {self.step} needs --trial: write --trial N --step {self.step}.")
        if self.max_params is not None:
            conditions["max_params"] = parse_count(self.max_params)
        return conditions


@dataclass(frozen=True, kw_only=True)
class RankOptions(PointOptions):
    """Options of `ranks`."""

    trial: Annotated[
        int | None, typer.Option(help="Choose the best evaluation of this trial, on the front or not.")
    ] = None
    to: Annotated[
        Path | str | None, typer.Option(help="File to which the ranks are written too: .json, or a picture as .png.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExportOptions(PointOptions):
    """Options of `export`."""

    to: Annotated[
        Path | str | None, typer.Option(help="Directory to write; must be new or empty.", rich_help_panel=DESTINATION)
    ] = None
    register: Annotated[
        str | None,
        typer.Option(
            help="Name of a registered model in MLflow. If no point is chosen, three are registered, with the aliases "
            "knee, smallest and best.",
            metavar="MODEL",
            rich_help_panel=DESTINATION,
        ),
    ] = None
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Name of a repository on the Hub; a new one is private.", metavar="REPO", rich_help_panel=DESTINATION
        ),
    ] = None
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write a full transformers model rather than an adapter.", rich_help_panel=FORM),
    ] = False
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Pad the adapter to one rank in all layers, for servers that require it.",
            rich_help_panel=FORM,
        ),
    ] = False


def runs_option(runs: Path | str) -> str:
    """Return ` --runs DIR` for a suggested command, or an empty text for the default directory."""
    return f" --runs {shlex.quote(str(runs))}" if Path(runs) != RUNS else ""


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
    from autorank.trials.retention import search_folder

    journal = Journal.open(search_folder(runs, name))
    return journal, journal.snapshot()
