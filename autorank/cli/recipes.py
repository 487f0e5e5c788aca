"""The commands about papers' tables: run one, list them, set measured beside reported figures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorank.cli.results import Format
from autorank.display.console import terminal
from autorank.options import completion
from autorank.options.budget import BudgetOptions
from autorank.options.parsing import expand
from autorank.options.recipe import RecipeOptions
from autorank.options.shared import RUNS, Runs

if TYPE_CHECKING:
    from autorank.recipes.recipe_searcher import Training

papers = typer.Typer()


@papers.callback(invoke_without_command=True)
def listed(ctx: typer.Context) -> None:
    """Papers' tables: list the recipes that come with autorank, or compare what one came to.

    [dim]Example:[/] autorank papers; autorank search --recipe increlora-table1 --rows '*-2/rte' --seeds 3
    """
    from rich.table import Table
    from rich.text import Text

    from autorank.recipes import load as recipes

    if ctx.invoked_subcommand is not None:
        return
    table = Table("recipe", "lines", "tasks", "seeds", "what", box=None)
    for name, file in recipes.shipped().items():
        recipe = recipes.parse(file)
        size = (str(len(recipe.methods)), str(len(recipe.tasks)), str(len(recipe.numbers())))
        table.add_row(name, *size, Text.assemble(f"{recipe.title}\n", (recipe.source, "dim")))
    terminal().print(table, soft_wrap=False)


@papers.command()
def compare(
    name: Annotated[
        str,
        typer.Argument(
            help="A run of a recipe, or a recipe that was not run yet.", autocompletion=completion.recipe_runs
        ),
    ],
    format: Annotated[Format, typer.Option(help="table, json or csv.")] = Format.table,
    runs: Runs = RUNS,
) -> None:
    """Print a paper's figures beside the measured ones, with their spread over seeds.

    Measured is the best evaluation of each run, as the papers count; json and csv have the last ones too.

    [dim]Example:[/] autorank papers compare increlora-table1
    """
    from rich.text import Text

    from autorank.recipes import compare as tables
    from autorank.recipes.load import read, shipped
    from autorank.recipes.results import FILE, Results

    scale, precision = 1.0, None
    if name in shipped() and not (runs / name / FILE).exists():
        recipe, found = read(Path(name)), {}
    else:
        results = Results.read(runs, name)
        recipe, found, scale = results.recipe, results.runs, results.about["scale"]
        precision = results.about.get("precision")
    entries = tables.compared(recipe, found)
    if format is Format.json:
        print(tables.as_json(entries))
    elif format is Format.csv:
        print(tables.as_csv(entries), end="")
    else:
        console = terminal()
        console.print(Text.assemble((recipe.title, "bold"), "  ", (recipe.source, "dim")), soft_wrap=False)
        if scale < 1:
            console.print(f"A try at --scale {scale:g}: its scores mean nothing.", style="yellow")
        if precision is not None:
            console.print(f"Run with --precision {precision}.", style="dim")
        console.print(tables.as_table(entries), soft_wrap=False)


def run_recipe(
    asked: RecipeOptions, use: BudgetOptions, name: str | None, model: str | None, data: Path | None,
    training: dict[str, Any], dry_run: bool,
) -> None:  # fmt: skip
    """Train a recipe's rows and show what they came to. The exit code is 1 if any failed."""
    from rich.text import Text

    from autorank.recipes import run as recipes
    from autorank.recipes.load import read
    from autorank.recipes.results import Results

    assert asked.recipe is not None
    recipe, console = read(asked.recipe), terminal()
    trainings = recipes.plan(recipe, asked.rows, asked.seeds, asked.scale, model, data, training)
    if dry_run:
        _show(trainings)
        return
    name = name or (recipe.name if asked.scale == 1 else f"{recipe.name}-try")
    about = recipes.about(recipe, asked.scale, model, data, training.get("precision"))
    runs = expand(use.runs)
    with Results.open(runs, name, about) as results:
        left = [each for each in trainings if not results.done(each.run)]
        console.print(Text.assemble((name, "bold"), f"  {len(left)} of {len(trainings)} trainings to run"))
        ended = len(trainings) - len(left)

        def told(run: tuple[str, int], outcome: dict[str, Any]) -> None:
            nonlocal ended
            ended += 1
            scores = [each["score"] for each in outcome.get("evaluations", ())]
            came_to = f"score {max(scores):.4f}" if scores else f"failed: {outcome['failed']}"
            console.print(f"[{ended}/{len(trainings)}] {run[0]}, seed {run[1]}: {came_to}")

        ending = recipes.run(trainings, results, use.budget(), told)
        failed = sum("failed" in results.runs.get(each.run, {}) for each in trainings)
    endings = {"interrupted": "Interrupted; nothing is lost.", "time budget": "The time budget is used up."}
    said = [endings[ending]] if ending in endings else []
    said += [f"{failed} training{'s' * (failed > 1)} failed."] if failed else []
    if said:
        console.print(f"{' '.join(said)} The same command goes on.")
    where = f" --runs {shlex.quote(str(runs))}" if runs != RUNS else ""
    console.print(f"\nNext:\n  autorank papers compare {name}{where}")
    if code := 130 if ending == "interrupted" else int(failed > 0):
        raise typer.Exit(code)


def _show(trainings: list[Training]) -> None:
    """What would be trained."""
    for each in trainings:
        settings = ", ".join(f"{name} {value}" for name, value in each.train.settings.items())
        how = each.train.training.model_dump(exclude_defaults=True, exclude={"seed"})
        rest = ", ".join(f"{name} {value}" for name, value in how.items())
        after = f"  ranks of {each.ranks_of[0]}" if each.ranks_of else ""
        line = f"{each.run[0]}, seed {each.run[1]}: {each.train.method}: {settings}; {rest}{after}"
        terminal().print(line)
