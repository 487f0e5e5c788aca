"""A recipe's rows: each line of the table on each task as the `TrainSpec` of one training, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autorank import methods
from autorank.errors import AutorankError, unknown
from autorank.recipes.schema import Assumed, Block, Recipe
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
    return [_row(recipe, line, task, model, data) for task in recipe.tasks for line in _lines(recipe, task)]


def mistakes(recipe: Recipe) -> list[str]:
    """Everything that is wrong with a recipe that has the right form; what goes wrong for several tasks once."""
    found = [str(unknown("task", task, TASKS)) for task in recipe.tasks if task not in TASKS]
    for task, metric in recipe.metric.items():
        if task in TASKS and metric not in TASKS[task].metrics:
            found.append(str(unknown(f"metric of {task}", metric, TASKS[task].metrics)))
    found += _misnamed(recipe)
    told: dict[str, list[str]] = {}
    for task in recipe.tasks:
        for line in _lines(recipe, task) if task in TASKS else ():
            try:
                _row(recipe, line, task)
            except AutorankError as error:
                told.setdefault(f"{line}: {' '.join(str(error).split())}", []).append(task)
    return found + [f"{message} ({', '.join(at)})" for message, at in told.items()]


def _lines(recipe: Recipe, task: str) -> Iterator[str]:
    return (line for line in recipe.methods if task in recipe.tasks_of(line))


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


def _row(recipe: Recipe, line: str, task: str, model: str | None = None, data: Path | None = None) -> Row:
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
