"""How allocation methods are found, by entry point or by the environment. Torch is imported with a method, not here."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from autorank.errors import AutorankError, unknown

if TYPE_CHECKING:
    from autorank.method import AllocationMethod

GROUP = "autorank.methods"
OWN = "AUTORANK_METHODS"  # environment: NAME=MODULE:CLASS,... of methods that no package installs


def names() -> list[str]:
    """Names of all methods there are.

    Raises:
        AutorankError: AUTORANK_METHODS is not as it should be.
    """
    return sorted({point.name for point in _points()})


def find(name: str) -> type[AllocationMethod[Any]]:
    """The method called `name`.

    Raises:
        AutorankError: there is none, it cannot be imported, or it does not fulfil the contract.
    """
    point = next((point for point in _points() if point.name == name), None)
    if point is None:
        raise unknown("method", name, names())
    try:
        method = point.load()
    except (ImportError, AttributeError) as error:
        remedy = f"{OWN} names it: put its module where Python looks (PYTHONPATH), or correct the name."
        if point not in _own():
            remedy = "Install its package again, or not at all."
        raise AutorankError(f"Method {name!r} ({point.value}) cannot be loaded: {error}. {remedy}") from error
    from autorank.method import AllocationMethod

    if not (isinstance(method, type) and issubclass(method, AllocationMethod)):
        raise AutorankError(
            f"Method {name!r} ({point.value}) is not an AllocationMethod; its package must subclass "
            "autorank.method.AllocationMethod."
        )
    return method


def configure(name: str, settings: Mapping[str, Any]) -> AllocationMethod[Any]:
    """The method called `name` with these settings, the rest at its defaults.

    Raises:
        AutorankError: an unknown method or setting, or a value that the method refuses; all of them at once.
    """
    from pydantic import ValidationError

    from autorank.spec import explain

    method = find(name)
    refuse_unknown(method, settings)
    try:
        return method(method.Config(**settings))
    except ValidationError as error:
        raise explain(error, f"One of the settings of {name}") from None


def refuse_unknown(method: type[AllocationMethod[Any]], settings: Iterable[str]) -> None:
    """Raise AutorankError for a setting that the method does not have, with the nearest one suggested."""
    for setting in settings:
        if setting not in method.Config.model_fields:
            raise unknown(f"setting of {method.name}", setting, method.Config.model_fields)


def absolute_paths(method: str, settings: Mapping[str, Any], directory: Path | None = None) -> dict[str, Any]:
    """Make relative paths among the settings of a method absolute, for trials run in other directories.

    Args:
        method: the method's name.
        settings: its settings.
        directory: what relative paths are relative to; None: the working directory.

    Returns:
        All settings, paths as absolute texts.
    """
    fields = find(method).Config.model_fields
    return {
        name: str((directory or Path()).absolute() / Path(value).expanduser())
        if isinstance(value, str | Path) and name in fields and _is_path(fields[name].annotation)
        else value
        for name, value in settings.items()
    }


def _is_path(annotation: Any) -> bool:
    """Whether a setting of this type is a path: `Path`, `Path | None`."""
    return annotation is Path or Path in get_args(annotation)


def _points() -> list[importlib.metadata.EntryPoint]:
    """All methods' entry points, the user's own first."""
    return [*_own(), *_installed()]


def _own() -> list[importlib.metadata.EntryPoint]:
    """Those of the environment, as it is now."""
    found = []
    for each in filter(None, map(str.strip, os.environ.get(OWN, "").split(","))):
        name, _, place = (part.strip() for part in each.partition("="))
        module, _, kind = place.partition(":")
        if not (name and module and kind):
            raise AutorankError(f"{OWN} has {each!r}, which is not NAME=MODULE:CLASS; several have a comma between.")
        found.append(importlib.metadata.EntryPoint(name, place, GROUP))
    return found


@cache  # reading what is installed takes 12 ms, and every trial asks
def _installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))
