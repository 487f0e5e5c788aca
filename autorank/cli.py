"""The command line: one short function a subcommand. It parses, calls and prints; the work is done elsewhere."""

from __future__ import annotations

import errno
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.errors import AutorankError
from autorank.options import (
    Address,
    Concurrency,
    GPUs,
    Name,
    RunOptions,
    Runs,
    TimeBudget,
    TrackingURI,
    parse_count,
    seconds,
    with_run_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from autorank.results.front import Point
    from autorank.results.journal import Journal
    from autorank.spec import SearchSpec

app = typer.Typer(
    help="Finds how few adapter parameters buy how much score, for a task and a base model.",
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
)  # fmt: skip

RUNS = Path("runs")
OTHER = "Choose another folder with --runs or --to."
REMEDIES = {
    errno.ENOSPC: "Make room on the disk, then give the same command again.",
    errno.EACCES: OTHER,
    errno.EPERM: OTHER,
    errno.EROFS: OTHER,
    errno.ENOTDIR: OTHER,
    errno.EEXIST: OTHER,
    errno.ENAMETOOLONG: "Choose a shorter --name.",
}


class Format(StrEnum):
    """How to print a front."""

    table = "table"
    json = "json"
    csv = "csv"


@app.callback()
def _global(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors.")] = False) -> None:
    """Finds how few adapter parameters buy how much score, for a task and a base model."""


@app.command()
@with_run_options
def search(
    run: RunOptions,
    name: Annotated[str | None, typer.Option(help="Default: METHOD-TASK.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of an earlier start included.")] = 20,
    time_budget: TimeBudget = None,
    space: Annotated[Path | None, typer.Option(help="Search space, YAML. Default: the method's.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, nsga2, gp or random.")] = "tpe",
    concurrency: Concurrency = None,
    gpus_per_trial: GPUs = None,
    address: Address = None,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Space, parameters, cost; nothing is run.")] = False,
) -> None:
    """Search a method's settings for the front of parameters against score.

    The same command again goes on where it stopped; a higher --trials extends a finished search.

    [dim]Example:[/] autorank search --method lora-drop --task demo --trials 8
    """
    from autorank.search import space as spaces
    from autorank.search.opening import make_spec
    from autorank.spec import TrainSpec

    base = TrainSpec(task=run.task_spec(), model=run.model_name(), method=run.method, training=run.training_spec())
    spec = make_spec(base, spaces.load(run.method, space, run.set or ()), name, sampler, run.seed)
    if dry_run:
        from autorank.search.display import dry_run as shown

        _console().print(shown(spec, trials, concurrency, gpus_per_trial))
        return
    _search(
        spec, runs, tracking_uri, trials=trials, time_budget=None if time_budget is None else seconds(time_budget),
        concurrency=concurrency, gpus_per_trial=gpus_per_trial, address=address,
    )  # fmt: skip


@app.command()
def resume(
    name: Name,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all. Default: as before.")] = None,
    time_budget: TimeBudget = None,
    concurrency: Concurrency = None,
    gpus_per_trial: GPUs = None,
    address: Address = None,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Go on with a search after Ctrl-C or a crash; with a higher --trials, extend it."""
    journal, _ = _open(name, runs)
    _search(
        journal.spec, runs, tracking_uri, trials=trials or journal.study.user_attrs["trials"],
        time_budget=None if time_budget is None else seconds(time_budget), concurrency=concurrency,
        gpus_per_trial=gpus_per_trial, address=address,
    )  # fmt: skip


@app.command()
@with_run_options
def train(
    run: RunOptions,
    to: Annotated[Path | None, typer.Option(help="Write the best evaluation's adapter here, for PEFT.")] = None,
) -> None:
    """Train once with one setting, without Ray.

    [dim]Example:[/] autorank train --method lora --task demo --set rank=4 --to my-adapter
    """
    import tempfile

    from autorank.modeling.export import refuse_taken
    from autorank.results.card import export_point
    from autorank.search.space import parse_settings
    from autorank.spec import TrainSpec
    from autorank.training.follow import follow
    from autorank.training.run import TrainingRun

    spec = TrainSpec(
        task=run.task_spec(), model=run.model_name(), method=run.method, settings=parse_settings(run.set or ()),
        training=run.training_spec(),
    )  # fmt: skip
    training = TrainingRun(spec)
    if to is not None:
        refuse_taken(to)
    with tempfile.TemporaryDirectory() as scratch:
        best = Path(scratch) / "best.safetensors"
        point = follow(_console(), training, best)
        if to is not None:
            export_point(best, to, point, spec, merged=False)
            _console().print(f"Adapter of step {point.step} in {to}")


@app.command()
def front(
    name: Name,
    format: Annotated[Format, typer.Option(help="table, json or csv.")] = Format.table,
    runs: Runs = RUNS,
) -> None:
    """Print a search's front, its knee and its hypervolume."""
    from autorank.results import report

    journal, points = _open(name, runs)
    if format is Format.json:
        print(report.front_json(points))
    elif format is Format.csv:
        print(report.front_csv(points), end="")
    else:
        _console().print(report.front_summary(journal.trials(), points, journal.reference))


@app.command()
def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    knee: Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")] = False,
    max_params: Annotated[
        str | None, typer.Option(help="The best with at most so many adapter parameters: 150000, 150k, 1.2M.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="The smallest that scores so much.")] = None,
    trial: Annotated[int | None, typer.Option(help="The best of this trial on the front.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="A full transformers model rather than an adapter.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Write a point of the front as a PEFT adapter, or merged into its base.

    [dim]Example:[/] autorank export lora-drop-demo --max-params 20k --to adapter
    """
    from autorank.results.card import export_point
    from autorank.results.front import pick
    from autorank.results.report import count
    from autorank.search.files import adapter_path

    if knee and (max_params or min_score is not None or trial is not None):
        raise AutorankError("--knee names a point already; leave out --max-params, --min-score and --trial.")
    journal, points = _open(name, runs)
    most = None if max_params is None else parse_count(max_params)
    point = pick(points, trial=trial, max_params=most, min_score=min_score)
    export_point(adapter_path(journal.folder, point.trial, point.step), to, point, journal.spec.train, merge)
    what = "Merged model" if merge else "PEFT adapter"
    _console().print(
        f"{what} of trial {point.trial}, step {point.step} in {to}: {count(point.adapter_params)} parameters, "
        f"score {point.score:.4f}"
    )


@app.command()
def sync(
    name: Name,
    tracking_uri: TrackingURI = None,
    runs: Runs = RUNS,
) -> None:
    """Bring MLflow up to date with a search's journal."""
    from autorank.results.lock import driver
    from autorank.results.tracking import Projection, default_uri, shown

    journal, points = _open(name, runs)
    if pid := driver(journal.folder):
        raise AutorankError(f"Process {pid} is at work on {name} and keeps MLflow up to date; sync when it has ended.")
    projection = Projection(tracking_uri or default_uri(runs), journal.spec, journal.search_id, journal.reference)
    projection.push(journal.trials(), points, final=True)
    _console().print(f"{len(journal.trials())} trials of {name} are in {shown(projection.uri)}")


@app.command()
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
    _console().print(f"http://127.0.0.1:{port}   (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    # by the environment, not the command line: a database's URI may hold a password, and anyone can list processes
    raise typer.Exit(subprocess.call(command, env=os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}))


@app.command()
def methods() -> None:
    """List the allocation methods, their settings and sources."""
    from autorank.method import find, names

    console = _console()
    for name in names():
        method = find(name)
        console.print(f"[bold]{name}[/]  {method.summary}  [dim]{method.source}[/]")
        for setting, field in method.Config.model_fields.items():
            console.print(f"    {setting} = {field.default}  [dim]{field.description or ''}[/]")


@app.command()
def tasks() -> None:
    """List the named tasks, their metrics and defaults."""
    from rich.table import Table

    from autorank.tasks import TASKS

    table = Table("task", "kind", "metrics (the first is the score)", "epochs", "batch", "model", box=None)
    for task in TASKS.values():
        model = "shipped with autorank" if task.hub is None else task.model
        table.add_row(task.name, task.kind, ", ".join(task.metrics), str(task.epochs), str(task.batch_size), model)
    _console().print(table)


@app.command()
def spaces(
    method: Annotated[str | None, typer.Argument(help="Print this method's, to start one of your own.")] = None,
) -> None:
    """Print search spaces as YAML."""
    from autorank.method import names
    from autorank.search.space import builtin

    for name in [method] if method else names():
        print(builtin(name).rstrip() + ("" if method else "\n"))


def main() -> None:
    """Run the command line. User errors go to stderr with exit code 2; bugs keep their traceback."""
    try:
        app()
    except (AutorankError, OSError) as error:
        known = isinstance(error, AutorankError) or error.errno in REMEDIES
        if "--debug" in sys.argv or not known:
            raise
        print(f"autorank: {error if isinstance(error, AutorankError) else _explain(error)}", file=sys.stderr)
        sys.exit(2)


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{where}. {REMEDIES[error.errno or 0]}"


def _search(spec: SearchSpec, runs: Path, tracking_uri: str | None, **budget: Any) -> None:
    """Search and show it; `budget` are the budget's arguments of `autorank.search.run.search`."""
    from autorank.results.tracking import default_uri
    from autorank.search import display
    from autorank.search.files import run_folder
    from autorank.search.run import search as run_search

    console = _console()
    folder = run_folder(runs, spec.name)
    with display.live(console, spec, budget["trials"], budget["time_budget"]) as progress:
        outcome = run_search(
            spec, folder, tracking_uri=tracking_uri or default_uri(runs), progress=progress, warn=display.warn, **budget
        )
    display.finish(console, spec, outcome, _open(spec.name, runs)[0].reference, _places(runs, tracking_uri))
    if outcome.ending == "interrupted":
        raise typer.Exit(130)


def _places(runs: Path, tracking_uri: str | None) -> str:
    """The options by which a next command finds the same runs and the same store."""
    from autorank.results.tracking import shown

    words = ["--runs", str(runs)] if runs != RUNS else []
    words += ["--tracking-uri", shown(tracking_uri)] if tracking_uri else []
    return "".join(f" {shlex.quote(word)}" for word in words)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _open(name: str, runs: Path) -> tuple[Journal, list[Point]]:
    from autorank.results.front import front as front_of
    from autorank.results.journal import Journal
    from autorank.search.files import run_folder

    journal = Journal.open(run_folder(runs, name))
    return journal, front_of(journal.trials())


if __name__ == "__main__":
    main()
