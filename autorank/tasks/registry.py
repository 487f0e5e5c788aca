"""The named tasks, and reading of a task's examples from the Hub, from files, or from the demo's generator."""

from __future__ import annotations

from dataclasses import replace

from autorank.errors import AutorankError, unknown
from autorank.spec import TaskSpec
from autorank.tasks import own_data
from autorank.tasks.data.columns import to_examples
from autorank.tasks.definition import Task
from autorank.tasks.metrics.metric_choice import with_metric
from autorank.tasks.metrics.text import FORWARD
from autorank.tasks.named import demo
from autorank.tasks.named.generation import EVAL_EXAMPLES, FORWARD_EXAMPLES, GENERATION, OWN_MODEL
from autorank.tasks.named.glue import GLUE
from autorank.tasks.named.squad import SQUAD
from autorank.tasks.reading.hub_dataset import HubDataset
from autorank.tasks.splits.table import Table

TASKS: dict[str, Task] = {**GLUE, **SQUAD, **GENERATION, demo.DEMO.name: demo.DEMO}


def resolve(spec: TaskSpec) -> Task:
    """Return the definition of a task. The user's own data is read, because its labels define the classes.

    Args:
        spec: The options that choose the task.

    Returns:
        The task.

    Raises:
        AutorankError: The task is unknown, or as `read`.
    """
    check(spec)
    return read(spec)[0] if spec.own_data else _with_metric(TASKS[spec.name], spec)


def base_model(spec: TaskSpec, model: str | None = None) -> str:
    """Return the base model, without reading the user's own data, which may be on another machine.

    Args:
        spec: The options that choose the task.
        model: The model that the user chose; None: the task's.

    Returns:
        Directory or name on the Hub.

    Raises:
        AutorankError: The options do not choose a task.
    """
    check(spec)
    if model:
        return model
    if not spec.own_data:
        return resolve(spec).model
    return Task.model if spec.label is not None else OWN_MODEL


def read(spec: TaskSpec) -> own_data.Splits:
    """Read all examples of a task.

    Args:
        spec: The options that choose the task.

    Returns:
        The task, its training split and its validation splits by name.

    Raises:
        AutorankError: The examples are missing, cannot be reached or are invalid.
    """
    check(spec)
    task, train, validation = _read(spec)
    return _with_metric(task, spec), train, validation


def _read(spec: TaskSpec) -> own_data.Splits:
    if spec.own_data:
        return own_data.read_own(spec)
    task = TASKS[spec.name]
    if spec.data is not None:
        return own_data.read_named(task, own_data.open_dataset(spec.data))
    if task.hub is not None:
        return own_data.read_named(task, HubDataset(*task.hub))
    if task.name != demo.DEMO.name:
        splits = ", ".join(("train", *task.validation))
        raise AutorankError(
            f"Task {task.name!r} cannot be loaded from the Hub. Use --data DIR with a directory that has {splits} "
            f"(csv, jsonl or parquet; columns {task.text[0]} and {task.label})."
        )
    train, validation = (
        to_examples(task, Table(demo.pairs(split), f"{task.name}'s {split} split")) for split in ("train", "validation")
    )
    return task, train, {"validation": validation}


def _with_metric(task: Task, spec: TaskSpec) -> Task:
    """The task with the user's metric as its score; raises if it has no such metric or --chat does not apply."""
    if spec.chat is not None and not task.kind.head.generates:
        raise AutorankError(f"--chat and --no-chat apply to text-to-text tasks only; {task.name!r} is {task.kind}.")
    task = with_metric(task, spec)
    if not task.kind.head.generates:
        return task
    return replace(task, eval_examples=FORWARD_EXAMPLES if task.metrics[0] in FORWARD else EVAL_EXAMPLES)


def check(spec: TaskSpec) -> None:
    """Check that the options are complete and do not contradict each other; the data is not read.

    Args:
        spec: The options that choose the task.

    Raises:
        AutorankError: They do not.
    """
    for option, names in (("--text", spec.text), ("--label", spec.label_columns), ("--prompt", spec.prompt)):
        if len(set(names)) < len(names):
            raise AutorankError(f"{option} {','.join(names)} names a column twice. Name each column once.")
    if not spec.own_data and (spec.train_split, spec.eval_split, spec.label_type) != (None, None, None):
        raise AutorankError(
            "--train-split, --eval-split and --label-type apply to your own data: --data with --text and --label, with "
            "--prompt and --completion, or with --messages."
        )
    if spec.label_type is not None and spec.label is None:
        raise AutorankError(f"--label-type {spec.label_type} describes the column --label, which is missing.")
    if spec.messages is not None:
        _check_messages(spec)
        return
    if spec.prompt or spec.completion is not None:
        _check_pairs(spec)
        return
    if spec.label is None and spec.text:
        raise AutorankError(f"--text {','.join(spec.text)} needs --label COL, the column to be predicted.")
    if spec.label is None and spec.name not in TASKS:
        raise unknown("task", spec.name, TASKS)
    if spec.label is None:
        return
    if spec.data is None:
        raise AutorankError(f"--label {spec.label} names a column of your own data, so it needs --data FILE.")
    if not 1 <= len(spec.text) <= 2:
        raise AutorankError(
            f"--text takes one or two text columns, separated by a comma; got {','.join(spec.text) or 'none'}."
        )
    if both := set(spec.text) & {spec.label, *spec.label_columns}:
        raise AutorankError(f"Column {min(both)!r} cannot be both --text and --label.")
    if spec.label_columns and spec.label_type is not None:
        raise AutorankError("--label-type applies to one label column; with several, each holds 0 or 1 for a class.")


def _check_pairs(spec: TaskSpec) -> None:
    """Check the options of the user's own text-to-text data."""
    if not spec.prompt or spec.completion is None:
        missing = "--completion" if spec.prompt else "--prompt"
        raise AutorankError(f"Text-to-text data needs --prompt COL and --completion COL; {missing} is missing.")
    if spec.text or spec.label is not None:
        raise AutorankError(
            "--prompt and --completion (text to text) cannot be combined with --text and --label (classes or numbers). "
            "Use one of the two pairs."
        )
    if spec.data is None:
        columns = ",".join(spec.prompt)
        raise AutorankError(f"--prompt {columns} names a column of your own data, so it needs --data FILE.")
    if spec.completion in spec.prompt:
        raise AutorankError(f"Column {spec.completion!r} cannot be both --prompt and --completion.")


def _check_messages(spec: TaskSpec) -> None:
    """Check the options of the user's own conversations."""
    if spec.columns != (spec.messages,):
        raise AutorankError(
            "--messages names the column of conversations and cannot be combined with --prompt, --completion, --text "
            "or --label. Omit these."
        )
    if spec.data is None:
        raise AutorankError(f"--messages {spec.messages} names a column of your own data, so it needs --data FILE.")
    if spec.chat is False:
        raise AutorankError(
            "--messages needs the tokenizer's chat template, so it cannot be combined with --no-chat. Omit --no-chat."
        )
