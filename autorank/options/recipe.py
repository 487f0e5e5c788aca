"""The options of `search --recipe`, and which of the others go with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.budget import BudgetOptions

RECIPE = "A paper's table"
CHANGES = ("accumulate", "gradient_checkpointing", "precision")  # how a training fits a machine, not what it is
OTHERS = ("config", "name", "data", "model", "dry_run", *CHANGES)
NOT_MINE = ("trials", "confirm_seeds", "storage", "tracking_uri")
SHOWN = ("quiet", "json")  # how a search is shown


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe, and how much of it is run."""

    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Train the rows of a recipe instead: a file, or a name that `autorank papers` lists. With it --data "
            "is a folder with a folder a task.",
            rich_help_panel=RECIPE,
            autocompletion=completion.recipes,
        ),
    ] = None
    rows: Annotated[
        str | None, typer.Option(help="These alone: LINE/TASK, as in 'increlora/*,*/rte'.", rich_help_panel=RECIPE)
    ] = None
    scale: Annotated[
        float,
        typer.Option(
            min=0.0001,
            max=1,
            help="A try: this part of examples and epochs. Its scores mean nothing.",
            rich_help_panel=RECIPE,
        ),
    ] = 1.0
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings a row. Default: the recipe's.", rich_help_panel=RECIPE)
    ] = None


def refuse_others(given: Iterable[str]) -> None:
    """Check the names of the options that come with --recipe.

    Raises:
        AutorankError: names those that a recipe has no use for.
    """
    given = list(given)
    if shown := [f"--{name}" for name in given if name in SHOWN]:
        raise AutorankError(
            f"{', '.join(shown)}: not with --recipe, whose trainings are told a line each and nothing else. For "
            "programs: `autorank papers compare NAME --format json` when they have ended."
        )
    known = {*OTHERS, *(field.name for group in (RecipeOptions, BudgetOptions) for field in fields(group))}
    if wrong := [name for name in given if name in NOT_MINE or name not in known]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise AutorankError(
            f"{options}: not with --recipe, which says itself what is trained. Copy the recipe and change it there; "
            "--rows, --seeds and --scale say how much of it is run."
        )


def refuse_alone(given: Iterable[str]) -> None:
    """Raise AutorankError for options of a recipe without one."""
    if wrong := [field.name for field in fields(RecipeOptions) if field.name in given]:
        raise AutorankError(f"--{wrong[0]} goes with --recipe FILE only.")
