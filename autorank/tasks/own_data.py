"""Reads the splits of the user's own data and of named tasks, from files or the Hub."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks.data.columns import to_examples
from autorank.tasks.definition import Task
from autorank.tasks.infer_task import infer_task
from autorank.tasks.kinds import multi_label
from autorank.tasks.named import generation
from autorank.tasks.prompts import conversation
from autorank.tasks.reading.file_set import find_files, split_of
from autorank.tasks.reading.hub_dataset import HubDataset
from autorank.tasks.reading.location import on_hub
from autorank.tasks.splits.examples import Examples
from autorank.tasks.splits.table import Table

USUAL: tuple[dict[str, Any], ...] = (  # columns of widespread forms of text-to-text data
    {"messages": "messages"},
    {"messages": "conversations"},
    {"prompt": ("instruction", "input"), "completion": "output"},
    {"prompt": ("instruction",), "completion": "output"},
    {"prompt": ("prompt",), "completion": "completion"},
)
Splits = tuple[Task, Examples, dict[str, Examples]]  # the task, train, validation by name


class Dataset(Protocol):
    """Data with splits: `FileSet` or `HubDataset`."""

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""

    def columns(self, split: str) -> list[str]:
        """Return the names of the columns of a split."""

    def read(self, split: str, names: tuple[str, ...]) -> Table:
        """Read columns of a split."""

    def overlap(self, split: str, other: str) -> bool:
        """Return whether two names mean the same split, or one of them a part of the other."""


def open_dataset(data: str) -> Dataset:
    """Find data that `--data` names.

    Args:
        data: A file, a directory, a pattern, an address, or a dataset on the Hub.

    Returns:
        The data, from which splits can be read.

    Raises:
        AutorankError: There are no such files.
    """
    hub = on_hub(data)
    return find_files(data) if hub is None else HubDataset(*hub)


def read_named(task: Task, dataset: Dataset) -> Splits:
    """Read a named task's splits, with the task's own column names.

    Args:
        task: The task.
        dataset: Data with the task's splits.

    Returns:
        The task, its training split and its validation splits by name.

    Raises:
        AutorankError: A split or column is missing, or its content is invalid (see `columns.to_examples`).
    """
    columns = (*task.text, task.label)
    splits = {split: split for split in task.validation}
    if not splits and (own_split := _named(dataset, "validation")):  # the data has more than the Hub
        splits = {"validation": own_split}
    validation = {name: to_examples(task, dataset.read(split, columns), train=False) for name, split in splits.items()}
    table = dataset.read("train", columns)
    train = to_examples(task, table, train=True)
    return (task, train, validation) if validation else with_validation(task, train, table.source)


def read_own(spec: TaskSpec) -> Splits:
    """Read the user's own data and infer its task.

    Without a validation split a part of the training examples is held out (see `with_validation`).

    Args:
        spec: The data and its columns.

    Returns:
        The task, its training split and its validation split.

    Raises:
        AutorankError: As `read_named`.
    """
    assert spec.data is not None
    dataset = open_dataset(spec.data)
    train_split, eval_split = _choose_splits(dataset, spec)
    table = _read(dataset, train_split, spec)
    if not len(table):
        raise AutorankError(f"{table.source} has no rows. Use data with at least two labeled rows.")
    if spec.label is None:
        task = generation.own_task(spec.name, spec.prompt or spec.columns, spec.completion or "")
    else:
        task = infer_task(spec.name, spec.text, table, spec.label, spec.label_type, spec.label_columns)
    train = to_examples(task, table, train=True)
    if eval_split is not None:
        return task, train, {"validation": to_examples(task, _read(dataset, eval_split, spec))}
    return with_validation(task, train, table.source)


def _read(dataset: Dataset, split: str, spec: TaskSpec) -> Table:
    """The user's columns of a split; several label columns also as one of lists.

    Of conversations also the columns of tools and of system messages, if the data has them.
    """
    if spec.messages is not None:
        return dataset.read(split, _conversation_columns(dataset, split, spec))
    table = dataset.read(split, spec.columns)
    if spec.completion is not None and any(map(conversation.are_messages, table[spec.completion])):
        return dataset.read(split, _conversation_columns(dataset, split, spec))
    if spec.label is None or not spec.label_columns:
        return table
    return multi_label.combined(table, spec.label_columns, spec.label)


def _conversation_columns(dataset: Dataset, split: str, spec: TaskSpec) -> tuple[str, ...]:
    available = dataset.columns(split)
    optional = [name for name in (conversation.TOOLS, conversation.SYSTEM) if name in available]
    return tuple(dict.fromkeys((*spec.columns, *optional)))


def detect_columns(data: str, split: str | None) -> dict[str, Any]:
    """Look for columns that text-to-text data usually has: conversations, or instruction, input and output (Alpaca).

    Args:
        data: The value of `--data`.
        split: The training split; None: `train`.

    Returns:
        Fields of `TaskSpec`; empty if there are no such columns.

    Raises:
        AutorankError: There is no such data, or a file is empty or invalid.
    """
    dataset = open_dataset(data)
    available = dataset.columns(_training_split(dataset, split))
    if not available:
        raise AutorankError(f"{data} is empty. Use data with at least two labeled rows.")
    usual = (fields for fields in USUAL if set(TaskSpec(name="", **fields).columns) <= set(available))
    return next(usual, {})


def _training_split(dataset: Dataset, named: str | None) -> str:
    """The split that is named, or else the one whose name means it, or the only one."""
    splits, train = dataset.splits, named
    if train is None:
        train = _named(dataset, "train") or (splits[0] if len(splits) == 1 and split_of(splits[0]) is None else None)
    if train is None:
        raise AutorankError(
            f"--data {dataset} has no training split. Available: {', '.join(splits)}. Choose one with --train-split."
        )
    return train


def _choose_splits(dataset: Dataset, spec: TaskSpec) -> tuple[str, str | None]:
    """The training split, and the split for validation or None."""
    train, evaluated = _training_split(dataset, spec.train_split), spec.eval_split
    if evaluated is None:
        validation = _named(dataset, "validation")
        return train, None if validation is None or dataset.overlap(train, validation) else validation
    if dataset.overlap(train, evaluated):
        raise AutorankError(
            f"--eval-split {evaluated} shares rows with the training split, {train}. Choose another one with "
            "--train-split; of a split on the Hub the other part, such as --train-split 'train[:90%]'."
        )
    return train, evaluated


def _named(dataset: Dataset, meaning: str) -> str | None:
    """The split with this name, or else the one whose name means it; None if there is none."""
    named = [name for name in dataset.splits if split_of(name) == meaning]
    if meaning in named:
        return meaning
    if len(named) > 1:
        option = "--train-split" if meaning == "train" else "--eval-split"
        raise AutorankError(
            f"--data {dataset} has several {meaning} splits: {', '.join(named)}. Choose one with {option}, or use data "
            f"with a split named {meaning}."
        )
    return named[0] if named else None


def with_validation(task: Task, train: Examples, source: str) -> Splits:
    """Hold out a tenth of the training examples as validation, the same ones every time.

    A tenth of each class is held out, at least one example of each class with two or more. For text to text, a tenth
    of the prompts is held out with all their completions.

    Args:
        task: The task.
        train: All training examples.
        source: Where they come from, for messages.

    Returns:
        The task, the remaining training examples and the validation split.

    Raises:
        AutorankError: There are too few examples.
    """
    validation = task.kind.validation_part(train.labels)
    if not len(validation):
        raise AutorankError(
            f"{source} has too few rows of each class to hold any out for validation. Add rows, or use "
            "a directory with train and validation files."
        )
    remaining = np.setdiff1d(np.arange(len(train)), validation)
    return task, train.take(remaining), {"validation": train.take(validation)}
