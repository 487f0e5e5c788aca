"""Shell completion of option values. It must answer at once, so nothing here imports torch or Ray."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from autorank.defaults import RUNS
from autorank.errors import AutorankError

JOURNAL, RESULTS = "journal.log", "recipe.jsonl"  # files that mark searches and runs of recipes


def methods(incomplete: str) -> list[str]:
    """Complete the name of a method; in a list A,B, the last name."""
    from autorank.methods import names

    before, comma, prefix = incomplete.rpartition(",")
    try:
        installed = names()
    except AutorankError:  # the command itself reports it
        return []
    listed = before.split(",")
    return [before + comma + name for name in installed if name.startswith(prefix) and name not in listed]


def tasks(incomplete: str) -> list[str]:
    """Complete the name of a task."""
    from autorank.tasks.registry import TASKS

    return _matching(TASKS, incomplete)


def recipes(incomplete: str) -> list[str]:
    """Complete the name of a recipe that comes with autorank."""
    from autorank.recipes.load import shipped

    return _matching(shipped(), incomplete)


def searches(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a search in --runs."""
    return _matching(_runs(ctx, JOURNAL), incomplete)


def recipe_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run of a recipe, or of a recipe."""
    return _matching({*_runs(ctx, RESULTS), *recipes("")}, incomplete)


def _runs(ctx: typer.Context, file: str) -> list[str]:
    runs = ctx.params.get("runs") or RUNS
    return [path.parent.name for path in Path(runs).expanduser().glob(f"*/{file}")]


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
