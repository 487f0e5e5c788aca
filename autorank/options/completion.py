"""What the shell offers where a value is typed. A key press waits for it, so nothing here imports torch or Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from autorank import methods as installed
from autorank.errors import AutorankError

JOURNAL, RESULTS = "journal.log", "recipe.jsonl"  # by which searches and runs of recipes are known


def methods(incomplete: str) -> list[str]:
    """Methods; of several, A,B, the last is completed."""
    before, comma, begun = incomplete.rpartition(",")
    try:
        names = installed.names()
    except AutorankError:  # which the command itself will say
        return []
    taken = before.split(",")
    return [before + comma + name for name in names if name.startswith(begun) and name not in taken]


def tasks(incomplete: str) -> list[str]:
    """Named tasks."""
    from autorank.tasks.registry import TASKS

    return _begun(TASKS, incomplete)


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with autorank."""
    from autorank.recipes.load import shipped

    return _begun(shipped(), incomplete)


def searches(ctx: typer.Context, incomplete: str) -> list[str]:
    """Searches in the folder of runs."""
    return _begun(_runs(ctx, JOURNAL), incomplete)


def recipe_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs of recipes, and recipes."""
    return _begun({*_runs(ctx, RESULTS), *recipes("")}, incomplete)


def one_of(*choices: str) -> Callable[[str], list[str]]:
    """Completes one of the choices."""

    def complete(incomplete: str) -> list[str]:
        return _begun(choices, incomplete)

    return complete


def _runs(ctx: typer.Context, file: str) -> list[str]:
    runs = ctx.params.get("runs") or "runs"
    return [found.parent.name for found in Path(runs).expanduser().glob(f"*/{file}")]


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
