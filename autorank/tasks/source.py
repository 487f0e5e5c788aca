"""Where a task's examples come from: the Hub, files, or the demo's generator."""

from __future__ import annotations

from autorank.errors import AutorankError, unknown
from autorank.spec import TaskSpec
from autorank.tasks import demo, files, hub
from autorank.tasks.examples import checked
from autorank.tasks.glue import GLUE
from autorank.tasks.task import Task

TASKS: dict[str, Task] = {**GLUE, demo.DEMO.name: demo.DEMO}


def resolve(spec: TaskSpec) -> Task:
    """The task's definition. Own data is read for it, since its classes are those of the data.

    Raises:
        AutorankError: the task is unknown, or as `read`.
    """
    _check(spec)
    return read(spec)[0] if spec.own_data else TASKS[spec.name]


def read(spec: TaskSpec) -> files.Splits:
    """The task with its whole train and validation examples.

    Raises:
        AutorankError: they are not there, not in reach, or of no use.
    """
    _check(spec)
    if spec.own_data:
        assert spec.data is not None and spec.label is not None
        return files.read_own(spec.name, spec.data, spec.text, spec.label)
    task = TASKS[spec.name]
    if spec.data is not None:
        return files.read_named(task, spec.data)
    if task.hub is not None:
        return hub.read(task)
    train, validation = (
        checked(task, demo.pairs(split), f"{task.name}'s {split} split") for split in ("train", "validation")
    )
    return task, train, {"validation": validation}


def _check(spec: TaskSpec) -> None:
    """That the parts of a spec go together."""
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
