"""From a search on disk to what others use: a folder, a model in MLflow's registry, a repository on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autorank.errors import AutorankError
from autorank.export import hub_upload
from autorank.export.export_point import export_point, form_of
from autorank.export.mlflow_model import refuse
from autorank.export.mlflow_registry import Registry, named
from autorank.export.model_card import Found
from autorank.export.output_dir import put, refuse_taken, scratch
from autorank.export.usage_snippets import Form
from autorank.modeling import adapter_file
from autorank.spec import TrainSpec
from autorank.tracking.tracking_uri import default_uri
from autorank.trials.front import Point, pick
from autorank.trials.journal import Journal
from autorank.trials.retention import adapter_path
from autorank.trials.snapshot import Snapshot


@dataclass(frozen=True)
class Version:
    """A version of a registered model, and the aliases that it was given."""

    number: int
    aliases: tuple[str, ...]
    point: Point


@dataclass(frozen=True)
class Shipped:
    """What became of a point. `folder`, `address`: where its export is kept, here and on the Hub."""

    point: Point
    form: Form
    folder: Path | None = None
    address: str | None = None
    versions: list[Version] = field(default_factory=list)


def ship(
    journal: Journal, snapshot: Snapshot, chosen: Point | None, to: Path | None = None, *, merge: bool = False,
    pad: bool = False, register: str | None = None, push_to_hub: str | None = None, tracking_uri: str | None = None,
) -> Shipped:  # fmt: skip
    """Export a point of a search, and bring it to a registry or to the Hub.

    All is checked and exported before anything is sent; `to` comes last. So the call can be given again after a
    failure: a push is repeated, and a point that is registered stays the version that it is.

    Args:
        chosen: None: the knee; with `register`, the smallest and the best points of the front are registered too.
        to: folder to write; None: a temporary one.
        merge, pad: the form; by default a PEFT adapter with each layer's rank, where PEFT can hold it.
        register: the registered model, in MLflow at `tracking_uri`; by default where the search is tracked.
        push_to_hub: the repository.

    Raises:
        AutorankError: there is nowhere to ship to, the point has no adapter or not in this form, the folder is taken,
            or MLflow or the Hub cannot be reached or refuses.
    """
    _check(journal, to, merge, pad, register, push_to_hub)
    exports = [_export(journal, point, merge, pad) for point in _points(snapshot.points, chosen, register is not None)]
    found, first = Found(journal.spec, snapshot, journal.reference), exports[0]
    registry = None if register is None else _registry(journal, found, exports, register, tracking_uri)
    address, versions = None, []
    with scratch(to) as place:
        folders = [place / str(number) for number in range(len(exports))]
        for export, folder in zip(exports, folders, strict=True):
            export_point(export.adapter, folder, export.point, export.train, export.form, found)
        if push_to_hub is not None:
            hub_upload.leave_folders_out(folders[0], first.train, first.origin)
            message = f"{first.form} of {journal.spec.name}: trial {first.point.trial}, step {first.point.step}"
            address = hub_upload.push(folders[0], push_to_hub, message)
        with _pushed(address):
            if registry is not None:
                versions = [
                    _version(registry, export, folder, snapshot.points)
                    for export, folder in zip(exports, folders, strict=True)
                ]
            if to is not None:
                put(folders[0], to)
    return Shipped(first.point, first.form, to, address, versions)


@dataclass(frozen=True)
class _Export:
    """A point as it is exported. `adapter`: the search's file."""

    point: Point
    train: TrainSpec
    adapter: Path
    form: Form
    origin: adapter_file.Origin


def _points(front: Sequence[Point], chosen: Point | None, all_named: bool) -> list[Point]:
    """What is exported, each once: first the point that was chosen or the knee, then if `all_named` the other aliases'
    points."""
    if chosen is not None:
        return [chosen]
    wanted = [pick(front), *(named(front).values() if all_named else ())]
    return list({_key(point): point for point in wanted}.values())


def _key(point: Point) -> tuple[int, int]:
    return point.trial, point.step


def _export(journal: Journal, point: Point, merge: bool, pad: bool) -> _Export:
    """Raises as `form_of`."""
    train = journal.spec.train(point.method, point.config)
    adapter = adapter_path(journal.folder, point.trial, point.step)
    form = form_of(adapter, point, train, merge, pad)
    return _Export(point, train, adapter, form, adapter_file.origin(adapter))


def _registry(
    journal: Journal, found: Found, exports: Sequence[_Export], model: str, tracking_uri: str | None
) -> Registry:
    """The registered model, in a store that is there, if it can hold the exports."""
    for export in exports:
        refuse(export.form, export.origin, export.point)
    uri = tracking_uri or default_uri(journal.folder.parent, journal.wanted.get("tracking"))
    registry = Registry(uri, model, found, journal.folder, journal.search_id)
    registry.open()
    return registry


def _version(registry: Registry, export: _Export, folder: Path, front: Sequence[Point]) -> Version:
    """Make an exported point a version with its aliases."""
    every = named(front) if front else {}
    aliases = tuple(alias for alias, point in every.items() if _key(point) == _key(export.point))
    return Version(registry.add(folder, export.form, export.origin, export.point, aliases), aliases, export.point)


@contextmanager
def _pushed(address: str | None) -> Iterator[None]:
    """Around what follows a push: where that fails, the error says that the push did not."""
    try:
        yield
    except AutorankError as error:
        if address is None:
            raise
        raise AutorankError(f"{error} The push is done: {address}. To do it again changes nothing there.") from error


def _check(
    journal: Journal, to: Path | None, merge: bool, pad: bool, register: str | None, push_to_hub: str | None
) -> None:
    """What can be said without looking at the point."""
    if to is None and register is None and push_to_hub is None:
        raise AutorankError("Name where to: --to DIR, --register MODEL or --push-to-hub REPO.")
    if merge and pad:
        raise AutorankError("--merge leaves no adapter that --pad could fill up; leave one of them out.")
    if to is not None:
        refuse_taken(to)
    if push_to_hub is not None:
        hub_upload.check(push_to_hub)
    if register is not None and (not register.strip() or "'" in register):
        raise AutorankError(f"--register {register!r}: MLflow has no such names. Choose one without a '.")
    if register is not None and journal.spec.task.trust_remote_code:
        raise AutorankError(
            "--register: this search runs code that comes with its model, which mlflow.transformers would run at every "
            "load, unasked. Export with --to DIR or --push-to-hub, or search without --trust-remote-code."
        )
