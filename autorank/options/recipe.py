"""Options of `search --recipe`, and which other options may be combined with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from autorank.errors import AutorankError
from autorank.options import completion
from autorank.options.budget import BudgetOptions

RECIPE = "Recipe of a paper's table"
CHANGES = ("accumulate", "gradient_checkpointing", "precision")  # options that fit a training to a machine
ALLOWED = ("config", "name", "data", "model", "dry_run", *CHANGES)
REFUSED = ("trials", "confirm_seeds", "stop_when_flat", "lanes", "storage", "tracking_uri")
DISPLAY = ("quiet", "json")


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe and the part of it that is run, one field per option."""

    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Train the rows of a recipe: a YAML file, or a name that `autorank papers` lists. --data is then a "
            "directory with one directory per task.",
            metavar="RECIPE",
            rich_help_panel=RECIPE,
            autocompletion=completion.recipes,
        ),
    ] = None
    rows: Annotated[
        str | None,
        typer.Option(
            help="Rows to train, as LINE/TASK: 'increlora/*,*/rte'. Default: all.",
            metavar="ROWS",
            rich_help_panel=RECIPE,
        ),
    ] = None
    scale: Annotated[
        float,
        typer.Option(
            min=0.0001,
            max=1,
            help="Fraction of the examples and epochs, for a quick trial run. Its scores are not comparable.",
            rich_help_panel=RECIPE,
        ),
    ] = 1.0
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**6, help="Number of trainings per row. Default: the recipe's.", rich_help_panel=RECIPE
        ),
    ] = None


def refuse_others(names: Iterable[str]) -> None:
    """Check which options are given together with --recipe.

    Args:
        names: Names of the given options.

    Raises:
        AutorankError: Lists the options that do not apply to a recipe.
    """
    names = list(names)
    if display := [f"--{name}" for name in names if name in DISPLAY]:
        raise AutorankError(
            f"{', '.join(display)} cannot be used with --recipe, which prints one line per training. For programs: "
            "`autorank papers compare NAME --format json` after the run."
        )
    applicable = {*ALLOWED, *(field.name for group in (RecipeOptions, BudgetOptions) for field in fields(group))}
    if wrong := [name for name in names if name in REFUSED or name not in applicable]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise AutorankError(
            f"{options} cannot be used with --recipe, which defines the trainings itself. Copy the recipe and edit "
            "it; --rows, --seeds and --scale choose how much of it is run."
        )


def refuse_alone(names: Iterable[str]) -> None:
    """Check that no option of a recipe is given without --recipe.

    Args:
        names: Names of the given options.

    Raises:
        AutorankError: Names the first such option.
    """
    if wrong := [field.name for field in fields(RecipeOptions) if field.name in names]:
        raise AutorankError(f"--{wrong[0]} needs --recipe FILE.")
