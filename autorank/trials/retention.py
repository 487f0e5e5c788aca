"""Where the files of a search lie, and which of them are kept."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.redaction import held, hide
from autorank.trials.record import TrialRecord
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)

ADAPTER, CHECKPOINT = ".safetensors", "run.pt"


def run_folder(runs: Path, name: str) -> Path:
    """The folder of the search `name` in the folder of runs.

    Raises:
        AutorankError: the name leads elsewhere, or the folder is an address.
    """
    if re.match(r"[a-z0-9]+:/", str(runs)):
        raise AutorankError(
            f"--runs {runs} is not a directory. Object storage cannot append to a journal. Pass a local directory to "
            f"--runs, and the address, where trials write, as --storage {runs}."
        )
    folder = (Path(runs) / name).resolve()
    if folder.parent != Path(runs).resolve() or not name.strip("."):
        raise AutorankError(
            f"The name {name!r} leads out of the folder of runs, {runs}. "
            "Use letters, digits, dots, dashes and underscores; --runs DIR chooses another folder."
        )
    return folder


def adapter_path(folder: Path, trial: int | str, step: int) -> Path:
    """The adapter of a trial's evaluation at `step`; only those on a front are kept."""
    return folder / "trials" / str(trial) / f"step-{step}.safetensors"


def checkpoint_path(folder: Path, trial: int | str) -> Path:
    """The last checkpoint of a trial that has not ended."""
    return folder / "trials" / str(trial) / CHECKPOINT


def stored(address: str, search_id: str) -> Path:
    """The part of object storage that is a search's: a `UPath`, used like a folder.

    Args:
        address: s3://BUCKET/PATH, gs://..., or any other that fsspec knows.

    Raises:
        AutorankError: it is none, or the package that reads it is missing.
    """
    from upath import UPath

    if not re.match(r"[a-z0-9]+:/", address):
        raise AutorankError(f"--storage {address!r} is no address; write s3://BUCKET/PATH, gs://... or another.")
    if held(address):
        raise AutorankError(
            f"--storage {hide(address)} holds a password, which the journal would keep. Give it in the environment, "
            "as the storage's own tools take it (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ...)."
        )
    try:
        place = UPath(address) / search_id
        _ = place.fs
    except (ImportError, ValueError) as error:
        raise AutorankError(f"--storage {address!r} cannot be used: {error}.") from error
    return place  # type: ignore[return-value]


def collect(folder: Path, stored: Path, snapshot: Snapshot) -> None:
    """Copy adapters of the front from object storage to the search's folder."""
    for file, content in _lacking(folder, stored, snapshot):
        with atomic_io.writing(file) as partial:
            partial.write_bytes(content)


def _lacking(folder: Path, stored: Path, snapshot: Snapshot) -> Iterator[tuple[Path, bytes]]:
    """Adapters of the front that the search's folder does not have yet, and what is in them."""
    with _patiently(stored):
        stored.fs.invalidate_cache()  # type: ignore[attr-defined]  # listings from before what was written since
        for point in (*snapshot.points, *snapshot.baseline):
            file, there = (adapter_path(place, point.trial, point.step) for place in (folder, stored))
            if not file.exists() and there.exists():
                yield file, there.read_bytes()


@contextlib.contextmanager
def _patiently(place: Path) -> Iterator[None]:
    """Object storage may be away, or ask for patience: what is left undone is done at the next evaluation, then."""
    try:
        yield
    except Exception as error:  # each client has its own
        if isinstance(place, Path):
            raise
        said = hide(" ".join(str(error).split()))
        logger.warning("%s: %s: %s; tried again at the next evaluation", place, type(error).__name__, said)


def remove(folder: Path) -> None:
    """Delete a folder and all in it, if it is there and can be deleted."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(Exception):  # each client has its own
            folder.rmdir(recursive=True)


def keep(folder: Path, runs: Collection[str]) -> None:
    """Delete what other runs than these left."""
    with _patiently(folder):
        for home in list(folder.glob("trials/*")):
            if home.name not in runs:
                remove(home)


def sweep(folder: Path, snapshot: Snapshot) -> None:
    """Delete adapters that are on no front, checkpoints of trials that have ended, and folders with nothing left in
    them, but for what a running trial needs."""
    kept = {adapter_path(folder, point.trial, point.step) for point in (*snapshot.points, *snapshot.baseline)}
    with _patiently(folder):
        for file in list(folder.glob("trials/*/*")):
            trial = _whose(file.parent, snapshot)
            if trial is None or file in kept or _awaited(file, trial):
                continue
            # a worker that is just being ended may still write there, and network storage has its ways: next time, then
            with contextlib.suppress(OSError):
                file.unlink()
    # object storage has no empty folders; here each would make the next look longer
    for home in list(folder.glob("trials/*")) if isinstance(folder, Path) else []:
        trial = _whose(home, snapshot)
        if trial is not None and trial.state != "running":
            with contextlib.suppress(OSError):  # not empty
                home.rmdir()


def _whose(home: Path, snapshot: Snapshot) -> TrialRecord | None:
    """The trial whose folder this is; None: it is none of ours."""
    known = home.name.isdigit() and int(home.name) < len(snapshot.trials)
    return snapshot.trials[int(home.name)] if known else None


def _awaited(file: Path, trial: TrialRecord) -> bool:
    """Whether a trial at work still needs a file, or has written it and not yet told."""
    if trial.state != "running":
        return False
    return file.suffix != ADAPTER or int(file.stem.removeprefix("step-")) > trial.step
