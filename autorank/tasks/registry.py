"""Where a task's examples come from: the Hub, files, or the demo's generator."""

from __future__ import annotations

from dataclasses import replace

from autorank.errors import AutorankError, unknown
from autorank.spec import TaskSpec
from autorank.tasks import demo, hub, own_data
from autorank.tasks.data.examples import checked
from autorank.tasks.definition import Task
from autorank.tasks.generation import GENERATION, MODEL
from autorank.tasks.glue import GLUE
from autorank.tasks.squad import SQUAD

TASKS: dict[str, Task] = {**GLUE, **SQUAD, **GENERATION, demo.DEMO.name: demo.DEMO}


def resolve(spec: TaskSpec) -> Task:
    """The task's definition. Own data is read for it, since its classes are those of the data.

    Raises:
        AutorankError: the task is unknown, or as `read`.
    """
    _check(spec)
    return read(spec)[0] if spec.own_data else _scored(TASKS[spec.name], spec)


def base_model(spec: TaskSpec, asked: str | None = None) -> str:
    """The base model asked for, or the task's. Own data, which may lie on another machine, are not read for it.

    Raises:
        AutorankError: as `resolve`, but for what is in the data.
    """
    _check(spec)
    if asked:
        return asked
    if not spec.own_data:
        return resolve(spec).model
    return Task.model if spec.completion is None else MODEL


def read(spec: TaskSpec) -> own_data.Splits:
    """The task with its whole train and validation examples.

    Raises:
        AutorankError: they are not there, not in reach, or of no use.
    """
    _check(spec)
    task, train, validation = _read(spec)
    return _scored(task, spec), train, validation


def _read(spec: TaskSpec) -> own_data.Splits:
    if spec.own_data:
        assert spec.data is not None
        if spec.prompt is not None and spec.completion is not None:
            return own_data.read_own(spec.name, spec.data, (spec.prompt,), spec.completion, generate=True)
        assert spec.label is not None
        return own_data.read_own(spec.name, spec.data, spec.text, spec.label)
    task = TASKS[spec.name]
    if spec.data is not None:
        return own_data.read_named(task, spec.data)
    if task.hub is not None:
        return hub.read(task)
    if task.name != demo.DEMO.name:
        splits = ", ".join(("train", *task.validation))
        raise AutorankError(
            f"Task {task.name!r} is not on the Hub in a form that can be loaded. Give a folder with {splits} (csv, "
            f"jsonl or parquet; columns {task.text[0]} and {task.label}): --data DIR."
        )
    train, validation = (
        checked(task, demo.pairs(split), f"{task.name}'s {split} split") for split in ("train", "validation")
    )
    return task, train, {"validation": validation}


def _scored(task: Task, spec: TaskSpec) -> Task:
    """The task with the metric asked for as its score.

    Raises:
        AutorankError: the task has no such metric, or --chat is given where nothing is prompted.
    """
    if spec.chat is not None and task.kind != "generation":
        raise AutorankError(f"--chat and --no-chat are for text-to-text tasks; {task.name!r} is {task.kind}.")
    if spec.metric is None:
        return task
    if spec.metric not in task.metrics:
        raise unknown(f"metric of {task.name}", spec.metric, task.metrics)
    return replace(task, metrics=(spec.metric, *(name for name in task.metrics if name != spec.metric)))


def _check(spec: TaskSpec) -> None:
    """That the parts of a spec go together."""
    if spec.prompt is not None or spec.completion is not None:
        _check_pairs(spec)
        return
    if spec.label is None and spec.text:
        raise AutorankError(f"--text {','.join(spec.text)} needs --label COLUMN, the column to be predicted.")
    if spec.label is None and spec.name not in TASKS:
        raise unknown("task", spec.name, TASKS)
    if spec.label is None:
        return
    if spec.data is None:
        raise AutorankError(f"--label {spec.label} names a column of your own data: give --data FILE.")
    if not 1 <= len(spec.text) <= 2:
        raise AutorankError(
            f"--text names one text column or two, separated by a comma; got {','.join(spec.text) or 'none'}."
        )
    if spec.label in spec.text:
        raise AutorankError(f"Column {spec.label!r} cannot be both --text and --label.")


def _check_pairs(spec: TaskSpec) -> None:
    """That a spec of the user's own text-to-text data is whole."""
    if spec.prompt is None or spec.completion is None:
        missing = "--prompt" if spec.prompt is None else "--completion"
        raise AutorankError(f"Text-to-text data need --prompt COLUMN and --completion COLUMN; {missing} is missing.")
    if spec.text or spec.label is not None:
        raise AutorankError(
            "--prompt and --completion (text to text) do not go with --text and --label (classes or numbers). Give one "
            "pair of them."
        )
    if spec.data is None:
        raise AutorankError(f"--prompt {spec.prompt} names a column of your own data: give --data FILE.")
    if spec.prompt == spec.completion:
        raise AutorankError(f"Column {spec.prompt!r} cannot be both --prompt and --completion.")
