"""The command line: one short function a subcommand. It parses, calls and prints; the work is done elsewhere."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import autorank
from autorank.cli import cluster, doctor, export, recipes, report, results
from autorank.errors import DISK_FULL, AutorankError
from autorank.options import Name, completion, read_search, terminal
from autorank.options.calls import ResumeCall, SearchCall, TrainCall
from autorank.options.config_file import FileOptions
from autorank.options.groups import with_options
from autorank.options.recipe import CHANGES, RecipeOptions, refuse_alone, refuse_others
from autorank.redaction import hide

if TYPE_CHECKING:
    from autorank.spec import SearchSpec

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
)  # fmt: skip

TOKENISING = logging.getLogger("autorank.tasks.data.tokenization")
OTHER = "Choose another folder with --runs or --to."
REMEDIES = {
    **dict.fromkeys(DISK_FULL, "Make room on the disk, then give the same command again."),
    errno.EBUSY: "Another program uses it; try again when it does not.",
    errno.EACCES: OTHER,
    errno.EPERM: OTHER,
    errno.EROFS: OTHER,
    errno.ENOTDIR: OTHER,
    errno.EEXIST: OTHER,
    errno.EISDIR: OTHER,
    errno.ENAMETOOLONG: "Choose a shorter --name.",
}


def _version(asked: bool) -> None:
    if asked:
        print(f"autorank {autorank.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of user errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Finds how few adapter parameters buy how much score, for a task and a base model.

    [dim]Example:[/] autorank doctor; autorank search --method lora-drop --task demo --trials 8
    """


@app.command()
@with_options
def search(
    ctx: typer.Context,
    asked: SearchCall,
    file: FileOptions,
    table: RecipeOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Space, parameters, cost; nothing is run.")] = False,
) -> None:
    """Search the settings of one method or several for the front of parameters against score.

    The same command again goes on where it stopped; a higher --trials extends a finished search.

    With --recipe FILE the rows of a paper's table are trained instead.

    [dim]Example:[/] autorank search --method lora-drop --task demo --trials 8
    """
    given = [name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
    if table.recipe is not None:
        refuse_others(given)
        changes = {name: getattr(asked.training_spec(), name) for name in CHANGES if name in given}
        recipes.run_recipe(table, asked, asked.name, asked.model_name(), asked.data_path(), changes, dry_run)
        return
    refuse_alone(given)
    _hush(asked)
    if dry_run and asked.json:
        raise AutorankError("--json prints the events of a search, --dry-run starts none: leave one of them out.")
    spec = asked.spec()
    if dry_run:
        from autorank.display.dry_run import dry_run as dry_run_report

        terminal().print(dry_run_report(spec, asked.budget()), soft_wrap=False)
        return
    _search(spec, asked)


@app.command()
@with_options
def resume(name: Name, asked: ResumeCall) -> None:
    """Go on with a search after Ctrl-C or a crash; with a higher --trials, or --trials +20, extend it.

    [dim]Example:[/] autorank resume lora-drop-demo --trials +20
    """
    _hush(asked)
    journal, _ = read_search(name, Path(asked.runs))
    _search(journal.spec, asked)


@app.command()
@with_options
def train(asked: TrainCall, file: FileOptions) -> None:
    """Train once with one setting, without Ray.

    [dim]Example:[/] autorank train --method lora --task demo --set rank=4 --to my-adapter
    """
    from autorank.runner import trained

    _hush(asked)
    try:
        trained(asked)
    except KeyboardInterrupt as stop:
        print("\n".join(["autorank: interrupted.", *getattr(stop, "__notes__", [])]), file=sys.stderr)
        raise typer.Exit(130) from None


for command in (results.front, results.ranks, export.export, results.sync, results.ui):
    app.command()(command)
app.command()(report.report)
app.command()(report.compare)
app.command()(doctor.doctor)
app.command(context_settings={"allow_interspersed_args": False})(cluster.submit)
app.add_typer(results.specs, name="spec")
app.add_typer(recipes.papers, name="papers")


@app.command()
def methods() -> None:
    """List the allocation methods, their settings and sources.

    [dim]Example:[/] autorank methods
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from autorank.methods import find, names

    console = terminal()
    for name in names():
        method = find(name)
        about = Text.assemble((name, "bold"), f"  {method.summary}\n    ", (method.source, "dim"))
        settings = Table.grid(padding=(0, 2, 0, 0))
        for setting, field in method.Config.model_fields.items():
            settings.add_row(f"{setting} = {field.default}", Text(field.description or "", "dim"))
        console.print(about, Padding(settings, (0, 0, 0, 4)), soft_wrap=False)


@app.command()
def tasks() -> None:
    """List the named tasks, their sources, metrics and defaults.

    [dim]Example:[/] autorank tasks
    """
    from rich.table import Column, Table

    from autorank.tasks import TASKS
    from autorank.tasks.demo import DEMO

    table = Table("task", "kind", Column("score, other metrics", overflow="fold"), "epochs", "batch", box=None)
    sources: dict[str, list[str]] = {}
    for task in TASKS.values():
        name = task.name if task.hub or task is DEMO else f"{task.name} (needs --data)"
        table.add_row(name, task.kind, ", ".join(task.metrics), str(task.epochs), str(task.batch_size))
        data = task.source.partition(";")[0] + (f", {task.hub[0]}" if task.hub else "")
        model = "the model shipped with autorank" if task is DEMO else task.model
        sources.setdefault(f"{data}; {model}", []).append(task.name)
    console = terminal()
    console.print(table, soft_wrap=False)
    lines = "\n".join(f"{', '.join(names)}: {source}" for source, names in sources.items())
    console.print(f"\n{lines}", style="dim", soft_wrap=False)


@app.command()
def spaces(
    method: Annotated[
        str | None,
        typer.Argument(help="Print this method's, to start one of your own.", autocompletion=completion.methods),
    ] = None,
) -> None:
    """Print search spaces as YAML.

    [dim]Example:[/] autorank spaces lora-drop > mine.yaml
    """
    from autorank.methods import names
    from autorank.searching.space.space import builtin

    for name in [method] if method else names():
        print(builtin(name).rstrip() + ("" if method else "\n"))


def main() -> None:
    """Run the command line. User errors go to stderr with exit code 2; bugs keep their traceback."""
    _tell_of_tokenising()
    try:
        app()
    except (AutorankError, OSError) as error:
        known = isinstance(error, AutorankError) or error.errno in REMEDIES
        if "--debug" in sys.argv or not known:
            raise
        print(hide(f"autorank: {error if isinstance(error, AutorankError) else _explain(error)}"), file=sys.stderr)
        sys.exit(2)
    finally:  # not before: Typer puts its own in place
        sys.excepthook = lambda *error: sys.stderr.write(hide("".join(traceback.format_exception(*error))))


def _tell_of_tokenising() -> None:
    """A line on stderr where large data are made tokens of, which takes a while and is quiet."""
    if not TOKENISING.handlers:
        TOKENISING.addHandler(_Teller())
        TOKENISING.setLevel(logging.INFO)


class _Teller(logging.Handler):
    """Writes to what stderr is at the time: within a live table that is what prints above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"autorank: {self.format(record)}", file=sys.stderr)


def _hush(asked: ResumeCall | TrainCall) -> None:
    if asked.quiet:
        TOKENISING.setLevel(logging.WARNING)


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{where}. {REMEDIES[error.errno or 0]}"


def _search(spec: SearchSpec, asked: ResumeCall) -> None:
    """Search and show it."""
    from autorank.runner import conduct

    if conduct(spec, asked, commands=True).ending == "interrupted":
        raise typer.Exit(130)


if __name__ == "__main__":
    main()
