"""From a search on disk to what others use: a folder, a model in MLflow's registry, a repository on the Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autorank.errors import AutorankError
from autorank.results.archive import Snapshot
from autorank.results.card import Found
from autorank.results.exporting import export_point, form_of
from autorank.results.front import Point, pick
from autorank.results.journal import Journal
from autorank.results.usage import Form
from autorank.search.files import adapter_path

if TYPE_CHECKING:
    from autorank.results.registry import Registry


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
    from autorank.modeling.folder import put
    from autorank.results import pushing

    _check(journal, to, merge, pad, register, push_to_hub)
    point = chosen or pick(snapshot.points)
    exports = _Exports(journal, snapshot, merge, pad)
    wanted, registry = [point], None
    if register is not None:
        wanted = exports.aliased() if chosen is None else [point]
        for each in wanted:
            exports.refuse_unregistrable(each)
        registry = exports.registry(register, tracking_uri)
    form, address, versions = exports.form(point), None, []
    with _scratch(to) as scratch:
        folders = {(each.trial, each.step): exports.write(each, scratch) for each in wanted}
        folder = folders[point.trial, point.step]
        if push_to_hub is not None:
            message = f"{form} of {journal.spec.name}: trial {point.trial}, step {point.step}"
            address = pushing.push(folder, push_to_hub, message)
        if registry is not None:
            versions = [exports.register(registry, each, folders[each.trial, each.step]) for each in wanted]
        if to is not None:
            put(folder, to)
    return Shipped(point, form, to, address, versions)


class _Exports:
    """Points of a search in one form."""

    def __init__(self, journal: Journal, snapshot: Snapshot, merge: bool, pad: bool) -> None:
        from autorank.results.registry import named

        self._journal, self._found = journal, Found(journal.spec, snapshot, journal.reference)
        self._merge, self._pad = merge, pad
        self._named = named(snapshot.points) if snapshot.points else {}

    def aliased(self) -> list[Point]:
        """The points that have an alias, each once."""
        return list({(point.trial, point.step): point for point in self._named.values()}.values())

    def form(self, point: Point) -> Form:
        """As what the point is exported; raises as `form_of`."""
        train = self._journal.spec.train(point.method, point.config)
        return form_of(self._adapter(point), point, train, self._merge, self._pad)

    def write(self, point: Point, scratch: Path) -> Path:
        """Export the point; returns its folder."""
        folder = scratch / f"trial-{point.trial}-step-{point.step}"
        train = self._journal.spec.train(point.method, point.config)
        export_point(self._adapter(point), folder, point, train, self._merge, self._pad, self._found)
        return folder

    def refuse_unregistrable(self, point: Point) -> None:
        """Raise AutorankError for what MLflow cannot hold."""
        from autorank.modeling.adapter_file import origin
        from autorank.results.mlflow_model import refuse

        refuse(self.form(point), origin(self._adapter(point)), point)

    def registry(self, model: str, tracking_uri: str | None) -> Registry:
        """The registered model, in a store that is there."""
        from autorank.results.registry import Registry
        from autorank.results.tracking import default_uri

        uri = tracking_uri or default_uri(self._journal.folder.parent)
        registry = Registry(uri, model, self._found, self._journal.folder, self._journal.search_id)
        registry.open()
        return registry

    def register(self, registry: Registry, point: Point, folder: Path) -> Version:
        """Make an exported point a version with its aliases."""
        from autorank.modeling.adapter_file import origin

        key = (point.trial, point.step)
        aliases = tuple(alias for alias, other in self._named.items() if (other.trial, other.step) == key)
        number = registry.add(folder, self.form(point), origin(self._adapter(point)), point, aliases)
        return Version(number, aliases, point)

    def _adapter(self, point: Point) -> Path:
        """Where the search keeps it."""
        return adapter_path(self._journal.folder, point.trial, point.step)


@contextmanager
def _scratch(to: Path | None) -> Iterator[Path]:
    """A temporary folder, on the disk of `to` if that is given."""
    from autorank.modeling.folder import beside

    if to is not None:
        with beside(to) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def _check(
    journal: Journal, to: Path | None, merge: bool, pad: bool, register: str | None, push_to_hub: str | None
) -> None:
    """What can be said without looking at the point."""
    from autorank.modeling.folder import refuse_taken
    from autorank.results import pushing

    if to is None and register is None and push_to_hub is None:
        raise AutorankError("Name where to: --to DIR, --register MODEL or --push-to-hub REPO.")
    if merge and pad:
        raise AutorankError("--merge leaves no adapter that --pad could fill up; leave one of them out.")
    if to is not None:
        refuse_taken(to)
    if push_to_hub is not None:
        pushing.check(push_to_hub)
    if register is not None and journal.spec.task.trust_remote_code:
        raise AutorankError(
            "--register: this search runs code that comes with its model, which mlflow.transformers would run at every "
            "load, unasked. Export with --to DIR or --push-to-hub, or search without --trust-remote-code."
        )
