"""Named tasks from the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

from autorank.errors import AutorankError
from autorank.modeling.hub_access import hub_access
from autorank.tasks.data.examples import checked
from autorank.tasks.definition import Task
from autorank.tasks.own_data import Splits, with_validation


def read(task: Task) -> Splits:
    """The task's splits by `datasets.load_dataset`: from the Hub, or its local cache.

    Raises:
        AutorankError: out of reach and not cached, no access, not found, or no use (see `examples.checked`).
    """
    assert task.hub is not None
    repository, configuration = task.hub
    try:
        import datasets
    except ImportError as error:
        raise AutorankError(
            f"Task {task.name!r} comes from the Hub, which needs the package datasets. `pip install "
            "datasets`, or read it from files with --data DIR."
        ) from error

    wanted = ["train", *task.validation]
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with hub_access("dataset", repository):
            loaded: list[Any] = datasets.load_dataset(repository, configuration, split=wanted)
    except ValueError as error:  # how datasets says that there is no such configuration, split or cached one
        raise AutorankError(
            f"Dataset {repository!r} cannot be loaded as {configuration!r}: {error} Read it from files with --data DIR."
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    columns = [*task.text, task.label]
    splits = {}
    for split, rows in zip(wanted, loaded, strict=True):
        where = f"split {split!r} of {repository} ({configuration})"
        absent = [name for name in columns if name not in rows.column_names]
        if absent:
            raise AutorankError(f"There is no column {absent[0]!r} in {where}: it has {', '.join(rows.column_names)}.")
        splits[split] = checked(task, rows.select_columns(columns).to_dict(), where, train=split == "train")
    train = splits.pop("train")
    return (task, train, splits) if splits else with_validation(task, train, f"split 'train' of {repository}")
