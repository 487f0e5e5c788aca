"""The rows of a recipe: each line of the table on each task, as the `TrainSpec` of one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from autorank import methods
from autorank.errors import AutorankError, similar
from autorank.recipes.schema import Assumed, Recipe
from autorank.spec import TrainingSpec, TrainSpec
from autorank.tasks import TASKS

SOURCE = ("max_length", "max_eval_examples")  # fields of `TaskSpec`
TRAINING = (*SOURCE, *(name for name in TrainingSpec.model_fields if name != "seed"))


@dataclass(frozen=True)
class Row:
    """A line of the table on a task.

    Attributes:
        line: The line.
        task: The task.
        train: The training, without its seed; None if the row is only reported.
        metric: The reported metric.
        assumed: Setting -> reason for its value, for settings that no source gives.
        ranks_of: The row whose final ranks this row is trained with.
    """

    line: str
    task: str
    train: TrainSpec | None
    metric: str
    assumed: Mapping[str, str] = field(default_factory=dict)
    ranks_of: str | None = None

    @property
    def name(self) -> str:
        """The row's name, `LINE/TASK`."""
        return f"{self.line}/{self.task}"


def rows(recipe: Recipe, model: str | None = None, data: Path | None = None) -> list[Row]:
    """Return all rows, task by task.

    Args:
        recipe: The recipe.
        model: Base model in place of the recipe's.
        data: Directory with one directory per task. None: the Hub.

    Returns:
        The rows.

    Raises:
        AutorankError: A row is not valid.
    """
    return [make_row(recipe, line, task, model, data) for task in recipe.tasks for line in lines_of(recipe, task)]


def lines_of(recipe: Recipe, task: str) -> Iterator[str]:
    """Return the lines of a task."""
    return (line for line in recipe.methods if task in recipe.tasks_of(line))


def make_row(recipe: Recipe, line: str, task: str, model: str | None = None, data: Path | None = None) -> Row:
    """Return a row.

    Args:
        recipe: The recipe.
        line: The line.
        task: The task.
        model: Base model in place of the recipe's.
        data: Directory with one directory per task. None: the Hub.

    Returns:
        The row.

    Raises:
        AutorankError: Its settings are not valid.
    """
    spec = recipe.methods[line]
    metric = recipe.metric.get(task, TASKS[task].metrics[0])
    if spec.not_run is not None:
        return Row(line, task, None, metric)
    method = methods.find(spec.method or line)
    fields = method.Config.model_fields
    values: dict[str, Any] = {}
    assumed: dict[str, str] = {}
    of_line = (spec.assumed, spec.training, spec.settings)
    for layer in (recipe.assumed, recipe.training, recipe.settings, *of_line):
        for name, value in layer.items():
            applies = name in TRAINING or name in fields or any(layer is part for part in of_line)
            reason, value = (value.why, value.value) if isinstance(value, Assumed) else (None, value)
            value = value.get(task) if isinstance(value, Mapping) else value
            if applies and value is not None:
                values[name] = value
                assumed.pop(name, None)
                if reason:
                    assumed[name] = reason
    training = {name: values.pop(name) for name in TRAINING if name in values}
    ranks_of = None if spec.ranks_of is None else f"{spec.ranks_of}/{task}"
    problems = []
    if ranks_of is not None and "retrain" not in fields:
        problems.append(f"{method.name} cannot use the ranks of another run; `lora` and `increlora` can.")
    source = {"name": task, "data": data and data / task} | {name: training.pop(name, None) for name in SOURCE}
    try:
        train = methods.train_spec(method.name, values, source, training, model or recipe.model)
    except AutorankError as error:
        problems.append(str(error))
    if problems:
        raise AutorankError(" ".join(problems))
    return Row(line, task, train, metric, assumed, ranks_of)


def chosen(rows: Sequence[str], pattern: str | None) -> list[str]:
    """Return the rows that a pattern matches.

    Args:
        rows: Names of rows, `LINE/TASK`.
        pattern: `increlora/*`, or several: `lora/rte,*/mrpc`. None: all rows.

    Returns:
        The names, in the order of `rows`.

    Raises:
        AutorankError: A part of the pattern matches no row; a similar one is suggested.
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
                f"--rows {part} matches no row. {hint}Rows are written as LINE/TASK. Available lines: "
                f"{', '.join(lines)}; tasks: {', '.join(tasks)}."
            )
    return [row for row in rows if any(fnmatchcase(row, part) for part in parts)]


def _nearest(name: str, known: Sequence[str]) -> str:
    """The pattern, if it matches a known name, else the most similar known name, or an empty string."""
    return name if any(fnmatchcase(candidate, name) for candidate in known) else similar(name, known) or ""
