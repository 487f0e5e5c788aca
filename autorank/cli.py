"""The command line: one short function a subcommand. It parses, calls and prints; the work is done elsewhere."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from autorank import cli_cluster, cli_pages, cli_papers, cli_results
from autorank.errors import AutorankError
from autorank.options import RUNS, Name, open_search, terminal
from autorank.options.budget import BudgetOptions
from autorank.options.groups import with_options
from autorank.options.recipe import CHANGES, RecipeOptions, refuse_alone, refuse_others
from autorank.options.run import RunOptions
from autorank.options.search import SearchOptions

if TYPE_CHECKING:
    from autorank.spec import SearchSpec

app = typer.Typer(
    help="Finds how few adapter parameters buy how much score, for a task and a base model.",
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
)  # fmt: skip

OTHER = "Choose another folder with --runs or --to."
REMEDIES = {
    errno.ENOSPC: "Make room on the disk, then give the same command again.",
    errno.EACCES: OTHER,
    errno.EPERM: OTHER,
    errno.EROFS: OTHER,
    errno.ENOTDIR: OTHER,
    errno.EEXIST: OTHER,
    errno.EISDIR: OTHER,
    errno.ENAMETOOLONG: "Choose a shorter --name.",
}


@app.callback()
def _global(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors.")] = False) -> None:
    """Finds how few adapter parameters buy how much score, for a task and a base model."""


@app.command()
@with_options
def search(
    ctx: typer.Context,
    run: RunOptions,
    how: SearchOptions,
    use: BudgetOptions,
    table: RecipeOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Space, parameters, cost; nothing is run.")] = False,
) -> None:
    """Search the settings of one method or several for the front of parameters against score.

    The same command again goes on where it stopped; a higher --trials extends a finished search.

    With --recipe FILE the rows of a paper's table are trained instead.

    [dim]Example:[/] autorank search --method lora-drop --task demo --trials 8
    """
    from autorank.search import space as spaces
    from autorank.search.opening import make_spec

    given = [name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
    if table.recipe is not None:
        refuse_others(given)
        changes = {name: getattr(run.training_spec(), name) for name in CHANGES if name in given}
        data = run.data.expanduser().absolute() if run.data else None
        cli_papers.run_recipe(table, use, how.name, run.model_name(), data, changes, dry_run)
        return
    refuse_alone(given)
    searched = spaces.load_all(run.methods, how.space, run.set or ())
    spec = make_spec(
        searched, run.task_spec(), run.model_name(), run.training_spec(), how.name, seed=run.seed,
        beside=spaces.by_method(run.methods, how.space).get(spaces.CONTROL), **how.values(),
    )  # fmt: skip
    if dry_run:
        from autorank.search.display import dry_run as shown

        terminal().print(shown(spec, use.budget()))
        return
    _search(spec, use)


@app.command()
@with_options
def resume(name: Name, use: BudgetOptions) -> None:
    """Go on with a search after Ctrl-C or a crash; with a higher --trials, or --trials +20, extend it."""
    journal, _ = open_search(name, use.runs)
    _search(journal.spec, use)


@app.command()
@with_options
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

    (method,) = run.methods if len(run.methods) == 1 else _one_method(str(run.method))
    spec = TrainSpec(
        task=run.task_spec(), model=run.model_name(), method=method, settings=parse_settings(run.set or ()),
        training=run.training_spec(),
    )  # fmt: skip
    training = TrainingRun(spec)
    if to is not None:
        refuse_taken(to)
    with tempfile.TemporaryDirectory() as scratch:
        best = Path(scratch) / "best.safetensors"
        point = follow(terminal(), training, best)
        if to is not None:
            export_point(best, to, point, spec, merged=False)
            terminal().print(f"Adapter of step {point.step} in {to}")


for command in (cli_results.front, cli_results.ranks, cli_results.export, cli_results.sync, cli_results.ui):
    app.command()(command)
app.command()(cli_pages.report)
app.command()(cli_pages.compare)
app.command(context_settings={"allow_interspersed_args": False})(cli_cluster.submit)
app.add_typer(cli_results.specs, name="spec")
app.add_typer(cli_papers.papers, name="papers")


@app.command()
def methods() -> None:
    """List the allocation methods, their settings and sources."""
    from autorank.method import find, names

    console = terminal()
    for name in names():
        method = find(name)
        console.print(f"[bold]{name}[/]  {method.summary}  [dim]{method.source}[/]")
        for setting, field in method.Config.model_fields.items():
            console.print(f"    {setting} = {field.default}  [dim]{field.description or ''}[/]")


@app.command()
def tasks() -> None:
    """List the named tasks, their metrics and defaults."""
    from rich.table import Column, Table

    from autorank.tasks import TASKS
    from autorank.tasks.demo import DEMO

    table = Table(
        "task", Column("kind", no_wrap=True), Column("score, other metrics", overflow="fold"), "epochs", "batch",
        Column("model", no_wrap=True), box=None, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for task in TASKS.values():
        name = task.name if task.hub or task is DEMO else f"{task.name} (needs --data)"
        model = "shipped with autorank" if task is DEMO else task.model
        table.add_row(name, task.kind, ", ".join(task.metrics), str(task.epochs), str(task.batch_size), model)
    terminal().print(table)


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


def _one_method(given: str) -> NoReturn:
    raise AutorankError(f"--method {given}: one run trains one method. `autorank search` takes several.")


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{where}. {REMEDIES[error.errno or 0]}"


def _search(spec: SearchSpec, use: BudgetOptions) -> None:
    """Search and show it."""
    from autorank.results.tracking import default_uri
    from autorank.search import display
    from autorank.search.files import run_folder
    from autorank.search.run import search as run_search

    console = terminal()
    budget = use.budget()
    folder = run_folder(use.runs, spec.name)
    with display.live(console, spec, budget) as progress:
        outcome = run_search(spec, folder, budget, use.tracking_uri or default_uri(use.runs), progress, display.warn)
    places = _places(use.runs, use.tracking_uri)
    display.finish(console, spec, outcome, open_search(spec.name, use.runs)[0].reference, places)
    if outcome.ending == "interrupted":
        raise typer.Exit(130)


def _places(runs: Path, tracking_uri: str | None) -> str:
    """The options by which a next command finds the same runs and the same store."""
    from autorank.results.tracking import shown

    words = ["--runs", str(runs)] if runs != RUNS else []
    words += ["--tracking-uri", shown(tracking_uri)] if tracking_uri else []
    return "".join(f" {shlex.quote(word)}" for word in words)


if __name__ == "__main__":
    main()
