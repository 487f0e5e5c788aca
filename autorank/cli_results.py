"""The commands that read what a search left; `autorank.cli` puts them on the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from autorank.errors import AutorankError
from autorank.options import RUNS, Name, Runs, TrackingURI, open_search, parse_count, terminal

Knee = Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")]
MaxParams = Annotated[
    str | None, typer.Option(help="The best with at most so many adapter parameters: 150000, 150k, 1.2M.")
]
MinScore = Annotated[float | None, typer.Option(help="The smallest that scores so much.")]


specs = typer.Typer(help="A search's spec as a file of options.", no_args_is_help=True)


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
    """Print a search's front, its knee and its hypervolume."""
    from autorank.results import report

    journal, snapshot = open_search(name, runs)
    if format is Format.json:
        print(report.front_json(snapshot))
    elif format is Format.csv:
        print(report.front_csv(snapshot), end="")
    else:
        terminal().print(report.front_summary(snapshot, journal.reference))


def ranks(
    name: Name,
    knee: Knee = False,
    max_params: MaxParams = None,
    min_score: MinScore = None,
    trial: Annotated[int | None, typer.Option(help="The best of this trial, also if it is not on the front.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write them to this file too: .json for programs, or .png.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Print the rank of each layer at a point of the front.

    [dim]Example:[/] autorank ranks lora-drop-demo --to ranks.png
    """
    from autorank.modeling import rank_map
    from autorank.results import report
    from autorank.results.front import candidates, pick

    if to is not None and to.suffix not in (".json", ".png"):
        raise AutorankError(f"--to {to} names no format that ranks are written in: let it end in .json or .png.")
    asked = _asked(knee, max_params, min_score, trial)
    _, snapshot = open_search(name, runs)
    points, trials = [*snapshot.points, *snapshot.control] if trial is not None else snapshot.points, snapshot.trials
    if trial is not None and all(point.trial != trial for point in points):
        points = candidates(trials)  # unlike adapters, ranks are kept of every evaluation
    point = pick(points, **asked)
    found = next(e.ranks for e in trials[point.trial].evaluations if e.step == point.step)
    where = f"trial {point.trial}, step {point.step}"
    if not found:
        raise AutorankError(f"There are no ranks: {where} of {name} has no low-rank updates. Choose another --trial.")
    terminal().print(report.rank_table(found))
    terminal().print(
        f"\nT{where[1:]}: {rank_map.summary(found)}; {report.count(point.adapter_params)} parameters, "
        f"score {point.score:.4f}"
    )
    if to is not None:
        _write_ranks(to, found, f"{name}: {where}")
        terminal().print(f"Written to {to}")


def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    knee: Knee = False,
    max_params: MaxParams = None,
    min_score: MinScore = None,
    trial: Annotated[int | None, typer.Option(help="The best of this trial on the front.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="A full transformers model rather than an adapter.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Write a point of the front as a PEFT adapter, or merged into its base.

    What PEFT has no adapter for is written in autorank's own format, which `autorank.load_adapter` reads.

    [dim]Example:[/] autorank export lora-drop-demo --max-params 20k --to adapter
    """
    from autorank.results.card import export_point
    from autorank.results.front import pick
    from autorank.results.report import count
    from autorank.search.files import adapter_path

    asked = _asked(knee, max_params, min_score, trial)
    journal, snapshot = open_search(name, runs)
    point = pick([*snapshot.points, *snapshot.control] if trial is not None else snapshot.points, **asked)
    train = journal.spec.train(point.method, point.config)
    form = export_point(adapter_path(journal.folder, point.trial, point.step), to, point, train, merge)
    terminal().print(
        f"{form[0].upper()}{form[1:]} of trial {point.trial}, step {point.step} in {to}: "
        f"{count(point.adapter_params)} parameters, score {point.score:.4f}"
    )


def sync(
    name: Name,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Bring MLflow up to date with a search's journal."""
    from autorank.results.lock import driver
    from autorank.results.tracking import Projection, default_uri, shown

    journal, snapshot = open_search(name, runs)
    if (pid := driver(journal.folder)) is not None:
        who = f"Process {pid}" if pid else "Another process"
        raise AutorankError(f"{who} is at work on {name} and keeps MLflow up to date; sync when it has ended.")
    uri = tracking_uri or default_uri(runs)
    projection = Projection(uri, journal.spec, journal.search_id, journal.reference, runs)
    projection.push(snapshot, final=True)
    terminal().print(f"{len(snapshot.trials)} trials of {name} are in {shown(projection.uri)}")


def ui(
    port: Annotated[int, typer.Option(help="0: a free one.")] = 0,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Open MLflow's pages on the searches of a runs folder, on this machine only."""
    import os
    import socket
    import subprocess

    from autorank.results.tracking import checked, default_uri, shown

    uri = checked(tracking_uri or default_uri(runs))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise AutorankError(f"Nothing is tracked in {runs} yet: run `autorank search`, or name another --runs DIR.")
    if uri.startswith("http"):
        raise AutorankError(f"{shown(uri)} is a server already; open it in a browser.")
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    terminal().print(f"http://127.0.0.1:{port}   (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    # by the environment, not the command line: a database's URI may hold a password, and anyone can list processes
    raise typer.Exit(subprocess.call(command, env=os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}))


@specs.callback()
def _specs() -> None:
    """A search's spec as a file of options."""


@specs.command()
def show(name: Name, runs: Runs = RUNS) -> None:
    """Print the options that make an equal search, as YAML for --config.

    [dim]Example:[/] autorank spec show lora-drop-demo > again.yaml; autorank search --config again.yaml --name again
    """
    from autorank.options.file import as_yaml

    journal, _ = open_search(name, runs)
    print(as_yaml(journal.spec, journal.wanted), end="")


def _asked(knee: bool, max_params: str | None, min_score: float | None, trial: int | None) -> dict[str, Any]:
    """Which point, as `autorank.results.front.pick` takes it.

    Raises:
        AutorankError: --knee beside another choice.
    """
    if knee and (max_params or min_score is not None or trial is not None):
        raise AutorankError("--knee names a point already; leave out --max-params, --min-score and --trial.")
    most = None if max_params is None else parse_count(max_params)
    return {"trial": trial, "max_params": most, "min_score": min_score}


def _write_ranks(to: Path, ranks: Mapping[str, int], title: str) -> None:
    """The ranks as JSON or as a figure, by the file's ending."""
    if to.suffix == ".json":
        from autorank.modeling import rank_map

        rank_map.write(to, ranks)
    else:
        from autorank.results.plots import rank_map_figure

        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        rank_map_figure(ranks, title).savefig(to)
