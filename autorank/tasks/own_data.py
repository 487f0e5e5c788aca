"""Examples from files: csv, jsonl and parquet, one file or a folder of `<split>.<ext>`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autorank.errors import AutorankError, unknown
from autorank.tasks import generation
from autorank.tasks.data.examples import Examples, checked, own_task
from autorank.tasks.data.stratified import whole_prompts
from autorank.tasks.definition import Task

ALIASES = {"validation": ("validation", "dev", "valid")}
HELD_OUT = 0.1  # of the examples, as validation where the user gives none (ours)
HOLD_OUT_SEED = 0

Splits = tuple[Task, Examples, dict[str, Examples]]  # the task, train, validation by name


def read_named(task: Task, folder: Path) -> Splits:
    """A named task's splits from `<split>.csv|jsonl|parquet` in `folder`, with the task's own columns.

    Raises:
        AutorankError: a file or column is missing, or its content is of no use (see `examples.checked`).
    """
    splits = ("train", *task.validation)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise AutorankError(
            f"--data {folder} {problem}. Task {task.name!r} is read from a folder with a csv, jsonl or "
            f"parquet file for each of {', '.join(splits)}; a file of your own needs --text and --label, or "
            "--prompt and --completion."
        )
    found = {split: _find(folder, split) for split in splits}
    missing = [split for split, path in found.items() if path is None]
    if missing:
        raise AutorankError(
            f"{folder} has no csv, jsonl or parquet file for {' and '.join(missing)} (as {missing[0]}.csv), "
            f"which task {task.name!r} needs. There is: {_listing(folder)}."
        )
    wanted = (*task.text, task.label)
    read_in = {
        split: checked(task, read(path, wanted), str(path), train=split == "train")
        for split, path in found.items()
        if path is not None
    }
    train = read_in.pop("train")
    return (task, train, read_in) if read_in else with_validation(task, train, str(found["train"]))


def read_own(name: str, data: Path, text: tuple[str, ...], label: str, generate: bool = False) -> Splits:
    """The user's own data: a file, or a folder with a train and perhaps a validation (dev, valid) file.

    Without a validation file some examples are held out: see `with_validation`. `generate`: `text` is the prompt and
    `label` the completion, rather than something to be predicted.

    Raises:
        AutorankError: as `read_named`.
    """
    train_path, validation_path = _own_files(data)
    wanted = (*text, label)
    columns = read(train_path, wanted)
    if not columns[label]:
        raise AutorankError(f"{train_path} has no rows. Give a file with at least two labelled rows.")
    if generate:
        task = generation.own(name, text[0], label)
    else:
        task = own_task(name, text, label, columns[label], str(train_path))
    train = checked(task, columns, str(train_path), train=True)
    if validation_path is not None:
        return task, train, {"validation": checked(task, read(validation_path, wanted), str(validation_path))}
    return with_validation(task, train, str(train_path))


def with_validation(task: Task, train: Examples, where: str) -> Splits:
    """A tenth of the training examples held out as validation, the same one each time.

    Of each class a tenth, and at least one where there are two; of text-to-text data a tenth of the prompts, each with
    all of its completions.

    Raises:
        AutorankError: there are too few examples.
    """
    if task.kind == "generation":
        held = whole_prompts(train.labels, HELD_OUT, HOLD_OUT_SEED)
    else:
        held = hold_out(train.labels, stratify=task.kind == "classification")
    if not len(held):
        raise AutorankError(
            f"{where} has too few rows of each class to hold any out for validation. Add rows, or give "
            "a folder with train and validation files."
        )
    kept = np.setdiff1d(np.arange(len(train)), held)
    return task, train.take(kept), {"validation": train.take(held)}


def hold_out(labels: np.ndarray, stratify: bool) -> np.ndarray:
    """Sorted indices of the tenth that is held out; stratified by class, where a lone example is kept."""
    draw = np.random.default_rng(HOLD_OUT_SEED)
    strata = labels if stratify else np.zeros(len(labels))
    held = [np.empty(0, np.int64)]
    for value in np.unique(strata):
        group = draw.permutation(np.flatnonzero(strata == value))
        held.append(group[: min(max(1, round(HELD_OUT * len(group))), len(group) - 1)])
    return np.sort(np.concatenate(held))


def read(path: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The wanted columns of a csv, jsonl or parquet file: name to the values of all rows. csv gives text.

    Raises:
        AutorankError: the file is missing, has another extension, is broken, or lacks a column.
    """
    if not path.is_file():
        raise AutorankError(f"There is no file {str(path)!r}. Check --data.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise AutorankError(f"{path} has the extension {path.suffix!r}; read are {', '.join(READERS)}. Convert it.")
    try:
        return reader(path, wanted)
    except UnicodeDecodeError as error:
        raise AutorankError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}). Convert it.") from error
    except OSError as error:
        raise AutorankError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_csv(path: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    csv.field_size_limit(2**31 - 1)  # the library's own limit, 128 KB, is less than a long document
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines, [])
            _require(path, wanted, header)
            places = [header.index(name) for name in wanted]
            values: list[list[Any]] = [[] for _ in wanted]
            for row in lines:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise AutorankError(
                        f"{path}, line {lines.line_num}: {len(row)} fields, but the header has "
                        f"{len(header)}. Quote fields that hold commas or line breaks."
                    )
                for column, place in zip(values, places, strict=True):
                    column.append(row[place])
        except csv.Error as error:
            raise AutorankError(f"{path}, line {lines.line_num}: not valid csv ({error}). Correct it.") from error
    return dict(zip(wanted, values, strict=True))


def _read_jsonl(path: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    objects = list(_objects(path))
    _require(path, wanted, list(dict.fromkeys(key for one in objects for key in one)) if objects else wanted)
    return {name: [one.get(name) for one in objects] for name in wanted}


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                one = json.loads(line)
            except ValueError as error:
                raise AutorankError(f"{path}, line {number}: not valid JSON ({error}). Correct that line.") from error
            if not isinstance(one, dict):
                raise AutorankError(
                    f"{path}, line {number}: {type(one).__name__} instead of an object, one a line, as in "
                    '{"text": "...", "label": "..."}.'
                )
            yield one


def _read_parquet(path: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AutorankError(f"{path}: parquet needs pyarrow. `pip install pyarrow`, or give csv or jsonl.") from error
    try:
        with pq.ParquetFile(path) as file:
            _require(path, wanted, file.schema_arrow.names)
            table = file.read(columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise AutorankError(f"{path} is not a sound parquet file: {error}. Write or copy it again.") from error
    return {name: table.column(name).to_pylist() for name in wanted}


READERS: dict[str, Callable[[Path, Sequence[str]], dict[str, list[Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _require(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    """All missing columns in one message, each with its nearest match."""
    if not there:
        raise AutorankError(f"{path} is empty. Give a file with a header and at least two labelled rows.")
    missing = [str(unknown("column", name, there)) for name in wanted if name not in there]
    if missing:
        raise AutorankError(f"{path}: " + " ".join(missing))


def _find(folder: Path, split: str) -> Path | None:
    """The file of a split, under its own name or an alias."""
    names = ALIASES.get(split, (split,))
    found = [path for name in names for ext in READERS if (path := folder / f"{name}{ext}").is_file()]
    if len(found) > 1:
        raise AutorankError(
            f"{folder} has several files for {split}: {', '.join(path.name for path in found)}. Keep one."
        )
    return found[0] if found else None


def _own_files(data: Path) -> tuple[Path, Path | None]:
    """Train file and validation file, if any."""
    if not data.is_dir():
        return data, None
    train = _find(data, "train")
    if train is None:
        raise AutorankError(
            f"{data} has no train.csv, train.jsonl or train.parquet. There is: {_listing(data)}. Name the "
            "file itself with --data, or rename it."
        )
    return train, _find(data, "validation")


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "nothing"
