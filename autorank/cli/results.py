"""The commands that read what a search left; `autorank.cli.app` puts them on the command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autorank.display.console import terminal
from autorank.errors import AutorankError
from autorank.options.shared import RUNS, Name, Runs, TrackingURI, read_search

Knee = Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")]
Step = Annotated[int | None, typer.Option(help="With --trial: its evaluation at this step.")]
MaxParams = Annotated[
    str | None, typer.Option(help="The best with at most so many adapter parameters: 150000, 150k, 1.2M.")
]
MinScore = Annotated[float | None, typer.Option(help="The smallest that scores so much.")]


specs = typer.Typer(no_args_is_help=True)


class Format(StrEnum):
    """How to print a front."""

    table = "table"
    json = "json"
    csv = "csv"


def front(
    name: Name,
    format: Annotated[Format, typer.Option(help="table, json or csv.")] = Format.table,
    runs: Runs = RUNS,
) -> None:
    """Print a search's front, its knee and its hypervolume.

    [dim]Example:[/] autorank front lora-drop-demo --format csv
    """
    from autorank.display.formatting import varied
    from autorank.reporting import tables

    journal, snapshot = read_search(name, runs)
    if format is Format.json:
        print(tables.front_json(snapshot))
    elif format is Format.csv:
        print(tables.front_csv(snapshot), end="")
    else:
        terminal().print(tables.front_summary(snapshot, journal.reference, varied(journal.spec)), soft_wrap=False)


def ranks(
    name: Name,
    knee: Knee = False,
    max_params: MaxParams = None,
    min_score: MinScore = None,
    trial: Annotated[int | None, typer.Option(help="The best of this trial, also if it is not on the front.")] = None,
    step: Step = None,
    to: Annotated[Path | None, typer.Option(help="Write them to this file too: .json for programs, or .png.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Print the rank of each layer at a point of the front.

    [dim]Example:[/] autorank ranks lora-drop-demo --to ranks.png
    """
    from autorank.api import open_search
    from autorank.modeling import rank_map
    from autorank.reporting import tables
    from autorank.trials.retention import adapter_path

    searched = open_search(name, runs)
    found = searched.ranks(knee=knee, max_params=max_params, min_score=min_score, trial=trial, step=step, to=to)
    terminal().print(tables.rank_table(found), soft_wrap=False)
    terminal().print(
        f"\nTrial {found.point.trial}, step {found.point.step}: {rank_map.summary(found)}; "
        f"{tables.count(found.point.adapter_params)} parameters, score {found.point.score:.4f}"
    )
    for held in rank_map.shared(adapter_path(searched.folder, found.point.trial, found.point.step), found):
        terminal().print(f"One update, shared: {held}")
    if to is not None:
        terminal().print(f"Written to {to}")


def sync(
    name: Name,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Bring MLflow up to date with a search's journal.

    [dim]Example:[/] autorank sync lora-drop-demo
    """
    from autorank.redaction import hide
    from autorank.tracking.mlflow_projection import Projection
    from autorank.tracking.tracking_uri import default_uri
    from autorank.trials.journal_lock import driver

    journal, snapshot = read_search(name, runs)
    if (pid := driver(journal.folder)) is not None:
        who = f"Process {pid}" if pid else "Another process"
        raise AutorankError(f"{who} is at work on {name} and keeps MLflow up to date; sync when it has ended.")
    uri = tracking_uri or default_uri(runs, journal.wanted.get("tracking"))
    projection = Projection(uri, journal.spec, journal.search_id, journal.reference, runs, journal.about)
    projection.push(snapshot, final=True)
    terminal().print(f"{len(snapshot.trials)} trials of {name} are in {hide(projection.uri)}")


def ui(
    port: Annotated[int, typer.Option(help="0: a free one.")] = 0,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Open MLflow's pages on the searches of a runs folder, on this machine only.

    [dim]Example:[/] autorank ui --port 5000
    """
    import os

    from autorank.tracking.mlflow_server import HOST, free, serve
    from autorank.tracking.tracking_uri import checked, default_uri, sqlite_file

    uri = checked(tracking_uri or default_uri(runs))
    if (file := sqlite_file(uri)) is not None and not file.exists():
        raise AutorankError(f"Nothing is tracked in {runs} yet: run `autorank search`, or name another --runs DIR.")
    if uri.startswith("http"):
        raise AutorankError(f"{uri} is a server already; open it in a browser.")
    port, console = free(port), terminal()
    waiting = console.status("MLflow's pages are coming up")

    def say() -> None:
        waiting.stop()
        console.print(f"http://{HOST}:{port}   (Ctrl-C ends it)")
        if "SSH_CONNECTION" in os.environ:
            console.print(f"From your own machine: ssh -L {port}:{HOST}:{port} and the name of this one")

    with waiting:
        serve(uri, port, say)


@specs.callback()
def _specs() -> None:
    """A search's spec as a file of options.

    [dim]Example:[/] autorank spec show lora-drop-demo
    """


@specs.command()
def show(name: Name, runs: Runs = RUNS) -> None:
    """Print the options that make an equal search, as YAML for --config.

    [dim]Example:[/] autorank spec show lora-drop-demo > again.yaml; autorank search --config again.yaml --name again
    """
    from autorank.options.config_file import as_yaml

    journal, _ = read_search(name, runs)
    print(as_yaml(journal.spec, journal.wanted), end="")
