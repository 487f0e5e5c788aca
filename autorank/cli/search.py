"""The commands `search` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autorank.cli import tokenization_log
from autorank.display.console import terminal
from autorank.errors import AutorankError
from autorank.interruption import EXIT_CODE, ended_by_force
from autorank.options.calls import ResumeCall, SearchCall
from autorank.options.config_file import FileOptions
from autorank.options.groups import with_options
from autorank.options.recipe import CHANGES, RecipeOptions, refuse_alone, refuse_others
from autorank.options.shared import Name, read_search

if TYPE_CHECKING:
    from autorank.spec import SearchSpec


@with_options
def search(
    ctx: typer.Context,
    call: SearchCall,
    config_options: FileOptions,
    recipe_options: RecipeOptions,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the space, the adapter sizes and the cost, from a few timed steps; start no search.",
        ),
    ] = False,
) -> None:
    """Search the settings of one or more methods for the Pareto front of adapter parameters against score.

    The same command again continues an unfinished search; a higher --trials extends a finished one.

    With --recipe FILE, the rows of a paper's table are trained instead.

    Example: autorank search --method lora-drop --task demo --trials 8
    """
    given_options = [
        name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"
    ]
    if recipe_options.recipe is not None:
        from autorank.cli.recipes import run_recipe

        refuse_others(given_options)
        data = None if call.data_path() is None else Path(str(call.data_path()))
        changes = {name: getattr(call.training_spec(), name) for name in CHANGES if name in given_options}
        run_recipe(recipe_options, call, call.name, call.model_name(), data, changes, dry_run)
        return
    refuse_alone(given_options)
    if call.quiet:
        tokenization_log.silence()
    if dry_run and call.json:
        raise AutorankError("--json prints the events of a search, but --dry-run starts no search. Use only one.")
    spec = call.spec()
    if dry_run:
        from autorank.display.dry_run import dry_run as dry_run_report
        from autorank.trials.retention import search_folder

        folder = search_folder(Path(call.runs), spec.name)
        terminal().print(dry_run_report(spec, call.budget(), folder), soft_wrap=False)
        return
    _run(spec, call)


@with_options
def resume(name: Name, call: ResumeCall) -> None:
    """Continue a search after Ctrl-C or a crash; with a higher --trials, or --trials +20, extend it.

    Example: autorank resume lora-drop-demo --trials +20
    """
    if call.quiet:
        tokenization_log.silence()
    from autorank.runner import check_name

    journal, _ = read_search(name, Path(call.runs))
    check_name(journal, name)
    _run(journal.spec, call)


def _run(spec: SearchSpec, call: ResumeCall) -> None:
    """Run and display a search. Exit code 130 after Ctrl-C or another signal."""
    from autorank.runner import run_search

    resume = call.resume_command(spec.name)
    with ended_by_force(f"autorank: Stopped. Finished trials are kept. Continue with: {resume}"):
        outcome = run_search(spec, call, suggest_commands=True)
    if outcome.ending == "interrupted":
        raise typer.Exit(EXIT_CODE)
