"""Recipes of papers' tables: `papers`, `papers compare`, and `search --recipe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.cli.help import CommandLine
from autorank.cli.results import Format
from autorank.defaults import RUNS
from autorank.display.console import terminal
from autorank.interruption import EXIT_CODE
from autorank.options import completion
from autorank.options.budget import BudgetOptions
from autorank.options.parsing import expand
from autorank.options.recipe import RecipeOptions
from autorank.options.shared import Runs, runs_option

if TYPE_CHECKING:
    from autorank.recipes.recipe_searcher import Training
    from autorank.recipes.results import RecipeRun

papers = CommandLine()


@papers.callback(invoke_without_command=True)
def list_recipes(ctx: typer.Context) -> None:
    """List the recipes that come with autorank, or compare the results of one with the paper.

    Example: autorank papers; autorank search --recipe increlora-table1 --rows '*-2/rte' --seeds 3
    """
    from rich.table import Table
    from rich.text import Text

    from autorank.recipes import load as recipes

    if ctx.invoked_subcommand is not None:
        return
    table = Table("recipe", "lines", "tasks", "seeds", "title", box=None)
    for name, file in recipes.shipped().items():
        recipe = recipes.parse(file)
        size = (str(len(recipe.methods)), str(len(recipe.tasks)), str(len(recipe.seed_list())))
        table.add_row(name, *size, Text.assemble(f"{recipe.title}\n", (recipe.source, "dim")))
    terminal().print(table, soft_wrap=False)


@papers.command()
def compare(
    name: Annotated[
        str,
        typer.Argument(help="Name of a run of a recipe, or of a recipe.", autocompletion=completion.recipe_runs),
    ],
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
    runs: Runs = RUNS,
) -> None:
    """Print a paper's scores next to the measured ones, with their standard deviation over seeds.

    The measured score is that of each run's best evaluation, as in the papers; json and csv also have the last one.

    Example: autorank papers compare increlora-table1
    """
    from rich.text import Text

    from autorank.recipes import compare as tables
    from autorank.recipes.load import read, shipped
    from autorank.recipes.results import FILE, Results

    scale, precision = 1.0, None
    if name in shipped() and not (runs / name / FILE).exists():
        recipe, outcomes = read(Path(name)), {}
    else:
        results = Results.read(runs, name)
        recipe, outcomes, scale = results.recipe, results.runs, results.identity["scale"]
        precision = results.identity.get("precision")
    entries = tables.compared(recipe, outcomes)
    if format is Format.json:
        print(tables.as_json(entries))
    elif format is Format.csv:
        print(tables.as_csv(entries), end="")
    else:
        console = terminal()
        console.print(Text.assemble((recipe.title, "bold"), "  ", (recipe.source, "dim")), soft_wrap=False)
        if scale < 1:
            console.print(f"Run at --scale {scale:g}; its scores are not comparable.", style="yellow")
        if precision is not None:
            console.print(f"Run with --precision {precision}.", style="dim")
        console.print(tables.as_table(entries), soft_wrap=False)


def run_recipe(
    options: RecipeOptions, budget: BudgetOptions, name: str | None, model: str | None, data: Path | None,
    training: dict[str, Any], dry_run: bool,
) -> None:  # fmt: skip
    """Train the rows of a recipe and print their scores. Exit code 1 if a training failed, 130 after Ctrl-C.

    Args:
        options: The recipe and the part of it that is run.
        budget: The budget, and the directory of runs.
        name: Name of the run. None: the recipe's name.
        model: Base model in place of the recipe's.
        data: Directory with one directory per task. None: the Hub.
        training: Fields of `TrainingSpec` in place of the recipe's.
        dry_run: Print the trainings and run nothing.
    """
    from rich.text import Text

    from autorank.recipes import run as recipes
    from autorank.recipes.load import read
    from autorank.recipes.results import Results

    assert options.recipe is not None
    recipe, console = read(options.recipe), terminal()
    trainings = recipes.plan(recipe, options.rows, options.seeds, options.scale, model, data, training)
    if dry_run:
        _show(trainings)
        return
    name = name or (recipe.name if options.scale == 1 else f"{recipe.name}-try")
    identity = recipes.run_identity(recipe, options.scale, model, data, training.get("precision"))
    runs = expand(budget.runs)
    with Results.open(runs, name, identity) as results:
        remaining = [entry for entry in trainings if not results.done(entry.run)]
        console.print(Text.assemble((name, "bold"), f"  {len(remaining)} of {len(trainings)} trainings to run"))
        ended = len(trainings) - len(remaining)

        def report(run: RecipeRun, outcome: dict[str, Any]) -> None:
            nonlocal ended
            ended += 1
            scores = [evaluation["score"] for evaluation in outcome.get("evaluations", ())]
            result = f"score {max(scores):.4f}" if scores else f"failed: {outcome['failed']}"
            console.print(f"[{ended}/{len(trainings)}] {run.row}, seed {run.seed}: {result}")

        ending = recipes.run(trainings, results, budget.budget(), report)
        failed = sum("failed" in results.runs.get(entry.run, {}) for entry in trainings)
    endings = {"interrupted": "Interrupted; all results are kept.", "time budget": "The time budget is used up."}
    messages = [endings[ending]] if ending in endings else []
    messages += [f"{failed} training{'s' * (failed > 1)} failed."] if failed else []
    if messages:
        console.print(f"{' '.join(messages)} Run the same command to continue.")
    console.print(f"\nNext:\n  autorank papers compare {name}{runs_option(runs)}")
    if code := EXIT_CODE if ending == "interrupted" else int(failed > 0):
        raise typer.Exit(code)


def _show(trainings: list[Training]) -> None:
    """Print the trainings of a dry run."""
    for training in trainings:
        run, train = training.run, training.train
        settings = ", ".join(f"{name} {value}" for name, value in train.settings.items())
        changed = train.training.model_dump(exclude_defaults=True, exclude={"seed"})
        options = ", ".join(f"{name} {value}" for name, value in changed.items())
        source = f"  ranks of {training.ranks_of.row}" if training.ranks_of else ""
        terminal().print(f"{run.row}, seed {run.seed}: {train.method}: {settings}; {options}{source}")
