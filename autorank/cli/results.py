"""The commands that read a finished or running search: `front`, `ranks`, `sync`, `ui`, `spec`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from autorank.cli.help import CommandLine
from autorank.defaults import RUNS
from autorank.display.console import terminal
from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.groups import with_options
from autorank.options.shared import (
    MinGainProbability,
    Name,
    PointOptions,
    RankOptions,
    Runs,
    TrackingURI,
    read_search,
)

specs = CommandLine(no_args_is_help=True)


class Format(StrEnum):
    """Output formats."""

    table = "table"
    json = "json"
    csv = "csv"


def front(
    name: Name,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
    min_gain_probability: MinGainProbability = None,
    runs: Runs = RUNS,
) -> None:
    """Print a search's front, its knee and its hypervolume.

    Example: autorank front lora-drop-demo --format csv
    """
    from autorank.reporting import front_csv_json, tables
    from autorank.trials.selection import pick
    from autorank.trials.statistics.front_statistics import front_statistics

    if min_gain_probability is not None and format is not Format.table:
        raise AutorankError(
            "--min-gain-probability is for the table. JSON and CSV contain the probabilities, as `better`."
        )
    choice = PointOptions(min_gain_probability=min_gain_probability).choice()
    journal, snapshot = read_search(name, runs)
    if format is Format.json:
        print(front_csv_json.front_json(snapshot))
    elif format is Format.csv:
        print(front_csv_json.front_csv(snapshot), end="")
    else:
        terminal().print(tables.front_summary(snapshot, journal.spec.searched_settings), soft_wrap=False)
    if min_gain_probability is not None:
        point = pick(snapshot.points, **choice, better=front_statistics(snapshot).gain_probabilities)
        terminal().print(
            f"Better than plain LoRA with probability {min_gain_probability:g} or more: {point.label}, "
            f"{point.adapter_params:,} parameters, score {point.score:.4f}"
        )


@with_options
def ranks(name: Name, options: RankOptions, runs: Runs = RUNS) -> None:
    """Print the rank of each layer at a point of the front.

    Example: autorank ranks lora-drop-demo --to ranks.png
    """
    from autorank.api import open_search
    from autorank.modeling import rank_map
    from autorank.reporting import tables
    from autorank.trials.retention import adapter_path

    search = open_search(name, runs)
    layer_ranks = search.ranks(**asdict(options))
    point = layer_ranks.point
    terminal().print(tables.rank_table(layer_ranks), soft_wrap=False)
    terminal().print(
        f"\n{point.label.capitalize()}: {rank_map.summary(layer_ranks)}; "
        f"{tables.count(point.adapter_params)} parameters, score {point.score:.4f}"
    )
    for layers in rank_map.shared(adapter_path(search.folder, point.trial, point.step), layer_ranks):
        terminal().print(f"One update, shared: {layers}")
    if options.to is not None:
        terminal().print(f"Written to {options.to}")


def sync(
    name: Name,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Update MLflow from a search's journal.

    Example: autorank sync lora-drop-demo
    """
    from autorank.redaction import hide
    from autorank.tracking.mlflow_sync import MLflowSync
    from autorank.tracking.tracking_uri import default_uri
    from autorank.trials.journal.journal_lock import driver

    journal, snapshot = read_search(name, runs)
    if (pid := driver(journal.folder)) is not None:
        who = f"Process {pid}" if pid else "Another process"
        raise AutorankError(f"{who} runs the search {name!r} and updates MLflow itself. Wait until it ends.")
    uri = tracking_uri or default_uri(runs, journal.options.get("tracking"))
    mlflow_sync = MLflowSync(uri, journal.spec, journal.search_id, runs, journal.provenance)
    mlflow_sync.push(snapshot, final=True)
    terminal().print(f"{len(snapshot.trials)} trials of {name} synced to {hide(mlflow_sync.uri)}")


def ui(
    name: Annotated[
        str | None, typer.Argument(help="Search to open. Default: the latest.", autocompletion=completion.searches)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server. 0: any free port.")] = 0,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Start the MLflow UI at the page of a search, reachable from this machine only.

    Example: autorank ui lora-drop-demo
    """
    import os

    from autorank.redaction import hide
    from autorank.tracking.mlflow_server import HOST, check_port, serve
    from autorank.tracking.search_page import page
    from autorank.tracking.tracking_uri import default_uri, sqlite_file, validated_uri

    journal = None if name is None else read_search(name, runs)[0]
    last = None if journal is None else journal.options.get("tracking")
    uri = validated_uri(tracking_uri or default_uri(runs, last))
    if (file := sqlite_file(uri)) is not None and not file.exists():
        raise AutorankError(
            f"No search in {runs} is tracked yet. Run `autorank search`, or choose another directory with --runs."
        )
    console = terminal()
    tracked_name = None if journal is None else journal.spec.name  # also of a directory that was renamed
    if uri.startswith("http"):  # runs already
        console.print(hide(uri).rstrip("/") + page(uri, tracked_name), soft_wrap=True)
        return
    port = check_port(port)
    status = console.status("Starting the MLflow UI")
    with status:
        path = page(uri, tracked_name)

        def print_address() -> None:
            status.stop()
            console.print(f"http://{HOST}:{port}{path}   (Ctrl-C stops it)", soft_wrap=True)
            if "SSH_CONNECTION" in os.environ:
                console.print(f"From another machine: ssh -L {port}:{HOST}:{port} HOST, where HOST is this machine")

        serve(uri, port, print_address)


@specs.callback()
def _specs() -> None:
    """Print the spec of a search as a file of options.

    Example: autorank spec show lora-drop-demo
    """


@specs.command()
def show(name: Name, runs: Runs = RUNS) -> None:
    """Print the options of a search as YAML, for --config.

    Example: autorank spec show lora-drop-demo > again.yaml; autorank search --config again.yaml --name again
    """
    from autorank.options.config_file import as_yaml

    journal, _ = read_search(name, runs)
    print(as_yaml(journal.spec, journal.options), end="")
