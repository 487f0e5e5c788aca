"""A recipe's rows: each line of the table on each task as the `TrainSpec` of one training, or what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autorank import methods
from autorank.errors import AutorankError
from autorank.recipes.schema import Assumed, Recipe
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec, explain
from autorank.tasks import TASKS

SOURCE = ("max_length", "max_eval_examples")  # of `TaskSpec`
TRAINING = (*SOURCE, *(name for name in TrainingSpec.model_fields if name != "seed"))


@dataclass(frozen=True)
class Row:
    """A line of the table on a task.

    Attributes:
        train: what is trained, but for the seed; None if the row is only reported.
        metric: the one that is reported.
        assumed: setting -> why it has its value, of those that no source gives.
        ranks_of: the row whose ranks it is trained with.
    """

    line: str
    task: str
    train: TrainSpec | None
    metric: str
    assumed: Mapping[str, str] = field(default_factory=dict)
    ranks_of: str | None = None

    @property
    def name(self) -> str:
        return f"{self.line}/{self.task}"


def rows(recipe: Recipe, model: str | None = None, data: Path | None = None) -> list[Row]:
    """All rows, task by task. `model`: in place of the recipe's; `data`: holds a folder a task.

    Raises:
        AutorankError: a row that is not valid.
    """
    return [make_row(recipe, line, task, model, data) for task in recipe.tasks for line in lines_of(recipe, task)]


def lines_of(recipe: Recipe, task: str) -> Iterator[str]:
    return (line for line in recipe.methods if task in recipe.tasks_of(line))


def make_row(recipe: Recipe, line: str, task: str, model: str | None = None, data: Path | None = None) -> Row:
    block = recipe.methods[line]
    metric = recipe.metric.get(task, TASKS[task].metrics[0])
    if block.not_run is not None:
        return Row(line, task, None, metric)
    method = methods.find(block.method or line)
    fields = method.Config.model_fields
    values: dict[str, Any] = {}
    why: dict[str, str] = {}
    own = (block.assumed, block.training, block.settings)
    for layer in (recipe.assumed, recipe.training, recipe.settings, *own):
        for name, value in layer.items():
            mine = name in TRAINING or name in fields or any(layer is each for each in own)
            reason, value = (value.why, value.value) if isinstance(value, Assumed) else (None, value)
            value = value.get(task) if isinstance(value, Mapping) else value
            if mine and value is not None:
                values[name] = value
                why.pop(name, None)
                if reason:
                    why[name] = reason
    training = {name: values.pop(name) for name in TRAINING if name in values}
    ranks_of = None if block.ranks_of is None else f"{block.ranks_of}/{task}"
    problems = []
    if ranks_of is not None and "retrain" not in fields:
        problems.append(f"{method.name} takes no ranks of another run; `lora` and `increlora` do.")
    try:
        methods.configure(method.name, values)
    except AutorankError as error:
        problems.append(str(error))
    try:
        reading = {name: training.pop(name, None) for name in SOURCE}
        source = TaskSpec(name=task, data=data and data / task, **reading)
        spec = TrainingSpec(**training)
    except ValidationError as error:
        problems.append(str(explain(error, "the training")))
    if problems:
        raise AutorankError(" ".join(problems))
    train = TrainSpec(task=source, model=model or recipe.model, method=method.name, settings=values, training=spec)
    return Row(line, task, train, metric, why, ranks_of)


def chosen(rows: Sequence[str], pattern: str | None) -> list[str]:
    """The rows (`LINE/TASK`) that a pattern names: `increlora/*`, or several: `lora/rte,*/mrpc`; None: all.

    Raises:
        AutorankError: a part of it names none; the nearest is suggested.
    """
    if pattern is None:
        return list(rows)
    parts = [part.strip() for part in pattern.split(",")]
    for part in parts:
        if not any(fnmatchcase(row, part) for row in rows):
            lines, tasks = (list(dict.fromkeys(names)) for names in zip(*(row.split("/") for row in rows), strict=True))
            line, _, task = part.partition("/")
            near = f"{_nearest(line, lines)}/{_nearest(task or '*', tasks)}"
            hint = f"Did you mean {near!r}? " if any(fnmatchcase(row, near) for row in rows) else ""
            raise AutorankError(
                f"--rows {part} names no row. {hint}There are {len(rows)}, LINE/TASK, with the lines "
                f"{', '.join(lines)} and the tasks {', '.join(tasks)}."
            )
    return [row for row in rows if any(fnmatchcase(row, part) for part in parts)]


def _nearest(name: str, known: Sequence[str]) -> str:
    """The name, if it is a pattern of any that is known, or else the nearest; empty if none is near."""
    if any(fnmatchcase(each, name) for each in known):
        return name
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")
