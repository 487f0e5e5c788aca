"""Named tasks from the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

from autorank.errors import AutorankError
from autorank.modeling.hub_access import hub_access
from autorank.tasks.columns import to_examples
from autorank.tasks.definition import Task
from autorank.tasks.own_data import Splits, with_validation


def read(task: Task) -> Splits:
    """Load the task's splits from the Hub or its local cache, with `datasets.load_dataset`.

    Args:
        task: A task with `hub`.

    Returns:
        The task, its training split and its validation splits by name.

    Raises:
        AutorankError: The dataset cannot be reached and is not cached, access is denied, it does not exist, or its
            content is invalid (see `columns.to_examples`).
    """
    assert task.hub is not None
    repository, configuration = task.hub
    try:
        import datasets
    except ImportError as error:
        raise AutorankError(
            f"Task {task.name!r} comes from the Hub, which needs the package datasets. Run `pip install "
            "datasets`, or read it from files with --data DIR."
        ) from error

    split_names = ["train", *task.validation]
    show_progress = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with hub_access("dataset", repository):
            loaded: list[Any] = datasets.load_dataset(repository, configuration, split=split_names)
    except ValueError as error:  # no such configuration or split, or not in the cache
        raise AutorankError(
            f"Dataset {repository!r} cannot be loaded as {configuration!r}: {error} Read it from files with --data DIR."
        ) from error
    finally:
        if show_progress:
            datasets.enable_progress_bars()
    columns = [*task.text, task.label]
    splits = {}
    for split, rows in zip(split_names, loaded, strict=True):
        source = f"split {split!r} of {repository} ({configuration})"
        missing = [name for name in columns if name not in rows.column_names]
        if missing:
            available = ", ".join(rows.column_names)
            raise AutorankError(f"Column {missing[0]!r} is missing in {source}. Available: {available}.")
        splits[split] = to_examples(task, rows.select_columns(columns).to_dict(), source, train=split == "train")
    train = splits.pop("train")
    return (task, train, splits) if splits else with_validation(task, train, f"split 'train' of {repository}")
