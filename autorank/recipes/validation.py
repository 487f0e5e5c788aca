"""Checks the names and settings in a recipe against what is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autorank import methods
from autorank.errors import AutorankError, unknown
from autorank.recipes.rows import TRAINING, lines_of, make_row
from autorank.recipes.schema import Assumed, LineSpec, Recipe
from autorank.tasks import TASKS


def mistakes(recipe: Recipe) -> list[str]:
    """Return all mistakes in the names and settings of a recipe; one that concerns several tasks is listed once."""
    errors = [str(unknown("task", task, TASKS)) for task in recipe.tasks if task not in TASKS]
    for task, metric in recipe.metric.items():
        if task in TASKS and metric not in TASKS[task].metrics:
            errors.append(str(unknown(f"metric of {task}", metric, TASKS[task].metrics)))
    errors += _unknown_names(recipe)
    by_message: dict[str, list[str]] = {}
    for task in recipe.tasks:
        for line in lines_of(recipe, task) if task in TASKS else ():
            try:
                make_row(recipe, line, task)
            except AutorankError as error:
                by_message.setdefault(f"{line}: {' '.join(str(error).split())}", []).append(task)
    return errors + [f"{message} ({', '.join(where)})" for message, where in by_message.items()]


def _unknown_names(recipe: Recipe) -> Iterator[str]:
    """Names of tasks, lines and settings that do not exist."""
    mappings: list[tuple[str, Mapping[str, Any]]] = [("metric", recipe.metric)]
    specs: list[tuple[str, Recipe | LineSpec]] = [("", recipe)]
    specs += [(f"{line}.", spec) for line, spec in recipe.methods.items()]
    for where, spec in specs:
        for kind in ("training", "settings", "assumed"):
            for name, value in getattr(spec, kind).items():
                value = value.value if isinstance(value, Assumed) else value
                if isinstance(value, Mapping):
                    mappings.append((f"{where}{kind}.{name}", value))
        if both := set(spec.assumed) & {*spec.training, *spec.settings}:
            yield f"{where}assumed: {sorted(both)[0]} is also given in training or settings; remove one"
        for name in spec.training:
            if name not in TRAINING:
                yield f"{where}training: {unknown('option of training', name, TRAINING)}"
    for line, spec in recipe.methods.items():
        mappings.append((f"{line}.reported.score", spec.reported.score))
        for task, printed in spec.reported.score.items():
            metrics = TASKS[task].metrics if task in TASKS else ()
            for metric in printed if metrics and isinstance(printed, Mapping) else ():
                if metric not in metrics:
                    yield f"{line}.reported.score: {unknown(f'metric of {task}', str(metric), metrics)}"
        mappings += (
            [(f"{line}.reported.params", spec.reported.params)] if isinstance(spec.reported.params, dict) else []
        )
        mappings.append((f"{line}.tasks", dict.fromkeys(spec.tasks or ())))
        if spec.ranks_of is not None and spec.ranks_of not in recipe.methods:
            yield f"{line}.ranks_of: {unknown('line', spec.ranks_of, recipe.methods)}"
        elif spec.ranks_of is not None and (reason := _no_ranks(recipe, line, recipe.methods[spec.ranks_of])):
            yield f"{line}.ranks_of: {spec.ranks_of} {reason}, so it has no ranks. Name a line that is trained"
    for where, mapping in mappings:
        for task in mapping:
            if task not in recipe.tasks:
                yield f"{where}: {unknown('task of the recipe', str(task), recipe.tasks)}"
    yield from _unused_settings(recipe)


def _no_ranks(recipe: Recipe, line: str, source: LineSpec) -> str:
    """Why `line` cannot use the ranks of `source`; empty if it can."""
    if source.not_run is not None:
        return "is not run"
    if source.ranks_of is not None:
        return f"uses the ranks of {source.ranks_of}"
    missing = [task for task in recipe.tasks_of(line) if task not in (source.tasks or recipe.tasks)]
    return f"is not trained on {', '.join(missing)}" if missing else ""


def _unused_settings(recipe: Recipe) -> Iterator[str]:
    """Settings of the recipe that none of its methods has."""
    used = {*TRAINING, "seeds"}
    for line, spec in recipe.methods.items():
        if (name := spec.method or line) in methods.names():
            used |= set(methods.find(name).Config.model_fields)
    for name in {**recipe.settings, **recipe.assumed}:
        if name not in used:
            yield str(unknown("setting of the recipe's methods", name, used))
