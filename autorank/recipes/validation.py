"""Checks the names and settings in a recipe against what is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autorank import methods
from autorank.errors import AutorankError, unknown
from autorank.recipes.rows import TRAINING, lines_of, make_row
from autorank.recipes.schema import Assumed, Block, Recipe
from autorank.tasks import TASKS


def mistakes(recipe: Recipe) -> list[str]:
    """Everything that is wrong with a recipe that has the right form; what goes wrong for several tasks once."""
    found = [str(unknown("task", task, TASKS)) for task in recipe.tasks if task not in TASKS]
    for task, metric in recipe.metric.items():
        if task in TASKS and metric not in TASKS[task].metrics:
            found.append(str(unknown(f"metric of {task}", metric, TASKS[task].metrics)))
    found += _misnamed(recipe)
    told: dict[str, list[str]] = {}
    for task in recipe.tasks:
        for line in lines_of(recipe, task) if task in TASKS else ():
            try:
                make_row(recipe, line, task)
            except AutorankError as error:
                told.setdefault(f"{line}: {' '.join(str(error).split())}", []).append(task)
    return found + [f"{message} ({', '.join(at)})" for message, at in told.items()]


def _misnamed(recipe: Recipe) -> Iterator[str]:
    """Names of tasks, lines and settings that are nowhere."""
    given: list[tuple[str, Mapping[str, Any]]] = [("metric", recipe.metric)]
    blocks: list[tuple[str, Recipe | Block]] = [("", recipe)]
    blocks += [(f"{line}.", block) for line, block in recipe.methods.items()]
    for where, block in blocks:
        for kind in ("training", "settings", "assumed"):
            for name, value in getattr(block, kind).items():
                value = value.value if isinstance(value, Assumed) else value
                if isinstance(value, Mapping):
                    given.append((f"{where}{kind}.{name}", value))
        if both := set(block.assumed) & {*block.training, *block.settings}:
            yield f"{where}assumed: {sorted(both)[0]} is given too; one of the two counts"
        for name in block.training:
            if name not in TRAINING:
                yield f"{where}training: {unknown('option of training', name, TRAINING)}"
    for line, each in recipe.methods.items():
        given.append((f"{line}.reported.score", each.reported.score))
        for task, printed in each.reported.score.items():
            known = TASKS[task].metrics if task in TASKS else ()
            for metric in printed if known and isinstance(printed, Mapping) else ():
                if metric not in known:
                    yield f"{line}.reported.score: {unknown(f'metric of {task}', str(metric), known)}"
        given += [(f"{line}.reported.params", each.reported.params)] if isinstance(each.reported.params, dict) else []
        given.append((f"{line}.tasks", dict.fromkeys(each.tasks or ())))
        if each.ranks_of is not None and each.ranks_of not in recipe.methods:
            yield f"{line}.ranks_of: {unknown('line', each.ranks_of, recipe.methods)}"
        elif each.ranks_of is not None and (why := _rankless(recipe, line, recipe.methods[each.ranks_of])):
            yield f"{line}.ranks_of: {each.ranks_of} {why}, so it has no ranks to give; name a line that is trained"
    for where, mapping in given:
        for task in mapping:
            if task not in recipe.tasks:
                yield f"{where}: {unknown('task of the recipe', str(task), recipe.tasks)}"
    yield from _nobodys(recipe)


def _rankless(recipe: Recipe, line: str, source: Block) -> str:
    """Why `line` cannot have the ranks of `source`; empty: it can."""
    if source.not_run is not None:
        return "is not run"
    if source.ranks_of is not None:
        return f"takes those of {source.ranks_of} itself"
    missing = [task for task in recipe.tasks_of(line) if task not in (source.tasks or recipe.tasks)]
    return f"is not trained on {', '.join(missing)}" if missing else ""


def _nobodys(recipe: Recipe) -> Iterator[str]:
    """Settings for the methods that have them, of which there is none."""
    known = {*TRAINING, "seeds"}
    for line, block in recipe.methods.items():
        if (name := block.method or line) in methods.names():
            known |= set(methods.find(name).Config.model_fields)
    for name in {**recipe.settings, **recipe.assumed}:
        if name not in known:
            yield str(unknown("setting, of all the recipe's methods", name, known))
