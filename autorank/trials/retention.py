"""Paths of the files of a search, and deletion of files that are no longer needed."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.redaction import has_password, hide
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)

ADAPTER, CHECKPOINT = ".safetensors", "run.pt"


def is_address(path: Path | str) -> bool:
    """Whether a path is an address such as s3://BUCKET/PATH, also one with a single slash, as `Path` writes it."""
    return re.match(r"[a-z0-9]+:/", str(path)) is not None


def search_folder(runs: Path, name: str) -> Path:
    """The directory of the search `name` in the directory of runs; it may be a link to another disk.

    Raises:
        AutorankError: The name leads elsewhere, or the directory is an address.
    """
    if is_address(runs):
        address = re.sub(":/+", "://", str(runs), count=1)  # `Path` shortens the slashes
        raise AutorankError(
            f"--runs {address} is not a directory: the journal of a search is on a local disk, and only the files of "
            f"its trials can be in object storage. Give the local directory with --runs DIR; `autorank search` takes "
            f"the address as --storage {address}."
        )
    if Path(name).name != name or not name.strip("."):
        raise AutorankError(
            f"The directory of a search named {name!r} would not be in {runs}. "
            "Use letters, digits, dots, dashes and underscores, or choose another directory with --runs DIR."
        )
    return Path(runs).resolve() / name


def adapter_path(folder: Path, trial: int | str, step: int) -> Path:
    """Path of the adapter of an evaluation. Only adapters on a front are kept.

    Args:
        folder: Directory of the search.
        trial: Number of the trial, or name of the run.
        step: Optimizer step of the evaluation.

    Returns:
        Path of the safetensors file.
    """
    return folder / "trials" / str(trial) / f"step-{step}{ADAPTER}"


def checkpoint_path(folder: Path, trial: int | str) -> Path:
    """The last checkpoint of a trial that has not ended."""
    return folder / "trials" / str(trial) / CHECKPOINT


def storage_folder(address: str, search_id: str) -> Path:
    """The directory of a search in object storage.

    Args:
        address: s3://BUCKET/PATH, gs://..., or another address that fsspec supports.
        search_id: Unique identifier of the search.

    Returns:
        The directory as a `UPath`.

    Raises:
        AutorankError: `address` is not an address or contains a password, or the package that reads it is missing.
    """
    from upath import UPath

    if not is_address(address):
        raise AutorankError(
            f"--storage {address!r} is not an address. Expected s3://BUCKET/PATH, gs://BUCKET/PATH or similar."
        )
    if has_password(address):
        raise AutorankError(
            f"--storage {hide(address)} contains a password, which would be stored in the journal. Pass it in the "
            "environment variables of the storage's own tools (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ...)."
        )
    try:
        path = UPath(address) / search_id
        _ = path.fs
    except Exception as error:  # each file system raises its own
        raise AutorankError(f"--storage {address!r} cannot be used: {error}.") from error
    return path  # type: ignore[return-value]


def download_adapters(folder: Path, storage: Path, snapshot: Snapshot) -> None:
    """Copy adapters of the front from object storage to the search's directory.

    Args:
        folder: Directory of the search.
        storage: The search's directory in object storage.
        snapshot: The search, with its fronts.
    """
    for file, content in _missing_adapters(folder, storage, snapshot):
        with atomic_io.writing(file) as partial:
            partial.write_bytes(content)


def _missing_adapters(folder: Path, storage: Path, snapshot: Snapshot) -> Iterator[tuple[Path, bytes]]:
    """Adapters of the front that are missing in the search's directory, with their content."""
    with _retried_later(storage):
        storage.fs.invalidate_cache()  # type: ignore[attr-defined]  # cached listings may be stale
        for point in (*snapshot.points, *snapshot.baseline):
            file, remote = (adapter_path(root, point.trial, point.step) for root in (folder, storage))
            if not file.exists() and remote.exists():
                yield file, remote.read_bytes()


@contextlib.contextmanager
def _retried_later(folder: Path) -> Iterator[None]:
    """Log errors of object storage instead of raising them; the work is retried at the next evaluation."""
    try:
        yield
    except Exception as error:  # each client has its own
        if isinstance(folder, Path):
            raise
        message = hide(" ".join(str(error).split()))
        logger.warning("%s: %s: %s; retrying at the next evaluation", folder, type(error).__name__, message)


def remove(folder: Path) -> None:
    """Delete a directory and its content; a missing directory or a failure is ignored."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(Exception):  # each client has its own
            folder.rmdir(recursive=True)


def delete_other_runs(folder: Path, runs: Collection[str]) -> None:
    """Delete the files of all runs other than `runs`."""
    with _retried_later(folder):
        for run in list(folder.glob("trials/*")):
            if run.name not in runs:
                remove(run)


def delete_unneeded(folder: Path, snapshot: Snapshot) -> None:
    """Delete adapters that are on no front, checkpoints of ended trials, and empty directories.

    Files that a running trial needs are kept.

    Args:
        folder: Directory of the search, or object storage.
        snapshot: The search, with its fronts.
    """
    kept = {adapter_path(folder, point.trial, point.step) for point in (*snapshot.points, *snapshot.baseline)}
    with _retried_later(folder):
        for file in list(folder.glob("trials/*/*")):
            trial = _trial_of(file.parent, snapshot)
            if trial is None or file in kept or _still_needed(file, trial):
                continue
            # a worker that is being stopped may still write here, or network storage fails: retried at the next call
            with contextlib.suppress(OSError):
                file.unlink()
    # object storage has no empty directories; local ones would slow down later listings
    for run in list(folder.glob("trials/*")) if isinstance(folder, Path) else []:
        trial = _trial_of(run, snapshot)
        if trial is not None and not trial.is_running:
            with contextlib.suppress(OSError):  # not empty
                run.rmdir()


def _trial_of(run: Path, snapshot: Snapshot) -> TrialRecord | None:
    """The trial that a directory belongs to; None if it was not made by this search."""
    is_trial = run.name.isdigit() and int(run.name) < len(snapshot.trials)
    return snapshot.trials[int(run.name)] if is_trial else None


def _still_needed(file: Path, trial: TrialRecord) -> bool:
    """Whether a running trial still needs a file, or has written it and not yet reported it."""
    if not trial.is_running:
        return False
    return file.suffix != ADAPTER or int(file.stem.removeprefix("step-")) > trial.step
