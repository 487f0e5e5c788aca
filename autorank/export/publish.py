"""Publishes points of a search: to a directory, to MLflow's registry, to a repository on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autorank.errors import AutorankError
from autorank.export import hub_upload
from autorank.export.cards.usage_snippets import Form
from autorank.export.export_point import PointExport, plan_export
from autorank.export.mlflow_model import check_registrable
from autorank.export.mlflow_registry import Registry, aliased_points
from autorank.export.output_dir import check_available, move_into_place, work_dir
from autorank.reporting.search_results import SearchResults
from autorank.tracking.tracking_uri import default_uri
from autorank.trials.journal.journal import Journal
from autorank.trials.point import Point
from autorank.trials.retention import adapter_path
from autorank.trials.selection import pick
from autorank.trials.snapshot import Snapshot


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        number: The version's number in the registry.
        aliases: The aliases that it was given.
        point: The point of the front that it holds.
    """

    number: int
    aliases: tuple[str, ...]
    point: Point


@dataclass(frozen=True)
class Published:
    """Where a point was published.

    Attributes:
        point: The point of the front.
        form: The form of the export.
        folder: The directory that was written, if any.
        address: The address on the Hub, if it was pushed.
        versions: The versions in MLflow's registry.
    """

    point: Point
    form: Form
    folder: Path | None = None
    address: str | None = None
    versions: list[Version] = field(default_factory=list)


def publish_points(
    journal: Journal, snapshot: Snapshot, chosen: Point | None, to: Path | None = None, *, merge: bool = False,
    pad: bool = False, register: str | None = None, push_to_hub: str | None = None, tracking_uri: str | None = None,
) -> Published:  # fmt: skip
    """Export a point of a search and publish it.

    Everything is checked and exported before anything is sent; `to` comes last. So the call can be repeated after a
    failure: a push is repeated, and a registered point keeps its version.

    Args:
        journal: The search.
        snapshot: Its trials and its front.
        chosen: The point; None: the knee, and with `register` the smallest and the best point of the front too.
        to: Directory to write; None: no directory is kept.
        merge: Export a merged model.
        pad: Export a PEFT adapter with one rank for all layers.
        register: Name of the registered model in MLflow.
        push_to_hub: Name of the repository on the Hub.
        tracking_uri: MLflow's store; None: the search's.

    Returns:
        Where the point (the first, if there are several) was published.

    Raises:
        AutorankError: No destination is given, the point has no adapter or not in this form, the directory is not
            empty, or MLflow or the Hub cannot be reached or refuses.
    """
    _check_options(journal, to, merge, pad, register, push_to_hub)
    exports = [
        _plan(journal, point, merge, pad) for point in _points(snapshot.points, chosen, aliases=register is not None)
    ]
    search, first = SearchResults(journal.spec, snapshot), exports[0]
    registry = None if register is None else _open_registry(journal, exports, register, tracking_uri)
    address, versions = None, []
    with work_dir(to) as work:
        folders = [work / str(number) for number in range(len(exports))]
        for export, folder in zip(exports, folders, strict=True):
            export.write(folder, search)
        if push_to_hub is not None:
            hub_upload.remove_local_paths(folders[0], first.train, first.origin)
            message = f"{first.form} of {journal.spec.name}: {first.point.label}"
            address = hub_upload.push(folders[0], push_to_hub, message)
        with _after_push(address):
            if registry is not None:
                versions = [
                    _register(registry, export, folder, snapshot.points)
                    for export, folder in zip(exports, folders, strict=True)
                ]
            if to is not None:
                move_into_place(folders[0], to)
    return Published(first.point, first.form, to, address, versions)


def _points(front: Sequence[Point], chosen: Point | None, aliases: bool) -> list[Point]:
    """The points to export, without duplicates: the chosen point or the knee, then those of the other aliases."""
    if chosen is not None:
        return [chosen]
    points = [pick(front), *(aliased_points(front).values() if aliases else ())]
    return list({point.key: point for point in points}.values())


def _plan(journal: Journal, point: Point, merge: bool, pad: bool) -> PointExport:
    train = journal.spec.train(point.method, point.settings)
    return plan_export(adapter_path(journal.folder, point.trial, point.step), point, train, merge, pad)


def _open_registry(journal: Journal, exports: Sequence[PointExport], model: str, tracking_uri: str | None) -> Registry:
    """Connect to the registry, after checking that it can hold the exports."""
    for export in exports:
        check_registrable(export)
    uri = tracking_uri or default_uri(journal.folder.parent, journal.options.get("tracking"))
    registry = Registry(uri, model, journal.spec, journal.folder, journal.search_id)
    registry.open()
    return registry


def _register(registry: Registry, export: PointExport, folder: Path, front: Sequence[Point]) -> Version:
    """Register an export with the aliases of its point."""
    points = aliased_points(front) if front else {}
    aliases = tuple(alias for alias, point in points.items() if point.key == export.point.key)
    return Version(registry.add(folder, export, aliases), aliases, export.point)


@contextmanager
def _after_push(address: str | None) -> Iterator[None]:
    """Add to errors after a push that the push itself succeeded."""
    try:
        yield
    except AutorankError as error:
        if address is None:
            raise
        raise AutorankError(f"{error} The push to {address} succeeded; repeating it is safe.") from error


def _check_options(
    journal: Journal, to: Path | None, merge: bool, pad: bool, register: str | None, push_to_hub: str | None
) -> None:
    """Check everything that does not depend on the point.

    Raises:
        AutorankError: An option is missing or invalid.
    """
    if to is None and register is None and push_to_hub is None:
        raise AutorankError("No destination given. Use --to DIR, --register MODEL or --push-to-hub REPO.")
    if merge and pad:
        raise AutorankError("--merge and --pad cannot be combined: a merged model has no adapter to pad.")
    if to is not None:
        check_available(to)
    if push_to_hub is not None:
        hub_upload.check_repository(push_to_hub)
    if register is not None and (not register.strip() or "'" in register):
        raise AutorankError(f"--register {register!r}: expected a name that is not empty and contains no '.")
    if register is not None and journal.spec.task.trust_remote_code:
        raise AutorankError(
            "--register cannot be used: this search ran code that comes with its model (--trust-remote-code), which "
            "mlflow.transformers would run at every load without asking. Export with --to DIR or --push-to-hub."
        )
