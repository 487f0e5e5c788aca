"""Reads examples from files: a csv, jsonl or parquet file, or a directory with `<split>.<ext>` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autorank.errors import AutorankError
from autorank.tasks import generation
from autorank.tasks.columns import to_examples
from autorank.tasks.data.file_readers import READERS, read
from autorank.tasks.definition import Task
from autorank.tasks.examples import Examples
from autorank.tasks.infer_task import infer_task

ALIASES = {"validation": ("validation", "dev", "valid")}

Splits = tuple[Task, Examples, dict[str, Examples]]  # the task, train, validation by name


def read_named(task: Task, folder: Path) -> Splits:
    """Read a named task's splits, with the task's own column names, from files.

    Args:
        task: The task.
        folder: A folder with a `<split>.csv`, `.jsonl` or `.parquet` for each split.

    Returns:
        The task, its training split and its validation splits by name.

    Raises:
        AutorankError: A file or column is missing, or its content is invalid (see `columns.to_examples`).
    """
    splits = ("train", *task.validation)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise AutorankError(
            f"--data {folder} {problem}. Task {task.name!r} is read from a folder with a csv, jsonl or "
            f"parquet file for each of {', '.join(splits)}; a file of your own needs --text and --label, or "
            "--prompt and --completion."
        )
    paths = {split: _find(folder, split) for split in splits}
    missing = [split for split, path in paths.items() if path is None]
    if missing:
        raise AutorankError(
            f"{folder} has no csv, jsonl or parquet file for {' and '.join(missing)} (such as {missing[0]}.csv), "
            f"which task {task.name!r} needs. Available: {_listing(folder)}."
        )
    names = (*task.text, task.label)
    examples = {
        split: to_examples(task, read(path, names), str(path), train=split == "train")
        for split, path in paths.items()
        if path is not None
    }
    train = examples.pop("train")
    return (task, train, examples) if examples else with_validation(task, train, str(paths["train"]))


def read_own(name: str, data: Path, text: tuple[str, ...], label: str, generate: bool = False) -> Splits:
    """Read the user's own data and infer its task.

    Without a validation file a part of the training examples is held out (see `with_validation`).

    Args:
        name: The task's name.
        data: A file, or a folder with a train and optionally a validation (dev, valid) file.
        text: The text columns; for text-to-text tasks the column of prompts.
        label: The label column; for text-to-text tasks the column of completions.
        generate: Whether the task is text to text.

    Returns:
        The task, its training split and its validation split.

    Raises:
        AutorankError: As `read_named`.
    """
    train_path, validation_path = _own_files(data)
    names = (*text, label)
    columns = read(train_path, names)
    if not columns[label]:
        raise AutorankError(f"{train_path} has no rows. Use a file with at least two labelled rows.")
    if generate:
        task = generation.own_task(name, text[0], label)
    else:
        task = infer_task(name, text, label, columns[label], str(train_path))
    train = to_examples(task, columns, str(train_path), train=True)
    if validation_path is not None:
        validation = to_examples(task, read(validation_path, names), str(validation_path))
        return task, train, {"validation": validation}
    return with_validation(task, train, str(train_path))


def with_validation(task: Task, train: Examples, source: str) -> Splits:
    """Hold out a tenth of the training examples as validation, the same ones every time.

    The tenth is of each class, and at least one example of each class with two or more. Of a text-to-text task it is a
    tenth of the prompts, with all of their completions.

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
            "a folder with train and validation files."
        )
    rest = np.setdiff1d(np.arange(len(train)), validation)
    return task, train.take(rest), {"validation": train.take(validation)}


def _find(folder: Path, split: str) -> Path | None:
    """The file of a split, under its own name or an alias."""
    names = ALIASES.get(split, (split,))
    paths = [path for name in names for ext in READERS if (path := folder / f"{name}{ext}").is_file()]
    if len(paths) > 1:
        raise AutorankError(
            f"{folder} has several files for {split}: {', '.join(path.name for path in paths)}. Keep one."
        )
    return paths[0] if paths else None


def _own_files(data: Path) -> tuple[Path, Path | None]:
    """The train file, and the validation file if it exists."""
    if not data.is_dir():
        return data, None
    train = _find(data, "train")
    if train is None:
        raise AutorankError(
            f"{data} has no train.csv, train.jsonl or train.parquet. Available: {_listing(data)}. Pass the "
            "file itself with --data, or rename it."
        )
    return train, _find(data, "validation")


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "nothing"
