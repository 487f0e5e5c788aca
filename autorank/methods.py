"""Registry of allocation methods: entry points and AUTORANK_METHODS. Torch is imported only when a method is."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from autorank.errors import AutorankError, explain, unknown

if TYPE_CHECKING:
    from autorank.method import AllocationMethod
    from autorank.spec import TaskSpec, TrainingSpec, TrainSpec

GROUP = "autorank.methods"
METHODS_VARIABLE = "AUTORANK_METHODS"  # environment variable: NAME=MODULE:CLASS,... for methods that are not installed


def names() -> list[str]:
    """List the names of all methods.

    Returns:
        The names in alphabetical order.

    Raises:
        AutorankError: AUTORANK_METHODS is malformed.
    """
    return sorted({point.name for point in _points()})


def find(name: str) -> type[AllocationMethod[Any]]:
    """Find a method by name.

    Args:
        name: The method's name.

    Returns:
        Its class.

    Raises:
        AutorankError: There is no such method, it cannot be imported, or it is not an `AllocationMethod`.
    """
    point = next((point for point in _points() if point.name == name), None)
    if point is None:
        raise unknown("method", name, names())
    try:
        method = point.load()
    except (ImportError, AttributeError) as error:
        remedy = f"Add the directory of its module to PYTHONPATH, or correct {METHODS_VARIABLE}."
        if point not in _from_variable():
            remedy = "Reinstall or uninstall its package."
        raise AutorankError(f"Method {name!r} ({point.value}) cannot be loaded: {error}. {remedy}") from error
    from autorank.method import AllocationMethod

    if not (isinstance(method, type) and issubclass(method, AllocationMethod)):
        raise AutorankError(
            f"Method {name!r} ({point.value}) is not an AllocationMethod. Make it a subclass of "
            "autorank.method.AllocationMethod."
        )
    return method


def configure(name: str, settings: Mapping[str, Any]) -> AllocationMethod[Any]:
    """Create a method from its settings. Only this function validates them.

    *Settings* are plain values by name, as they are given, sampled and stored. The *config* of a method is the
    validated object made from them, with all defaults.

    Args:
        name: The method's name.
        settings: Settings; others have their defaults.

    Returns:
        The method.

    Raises:
        AutorankError: The method or a setting is unknown, or values are invalid; all of them are reported at once.
    """
    from pydantic import ValidationError

    method = find(name)
    for setting in settings:
        if setting not in method.Config.model_fields:
            raise unknown(f"setting of {method.name}", setting, method.Config.model_fields)
    try:
        return method(method.Config(**settings))
    except ValidationError as error:
        raise explain(error, f"One of the settings of {name}") from None


def train_spec(
    method: str,
    settings: Mapping[str, Any],
    task: TaskSpec | Mapping[str, Any],
    training: TrainingSpec | Mapping[str, Any],
    model: str | None = None,
) -> TrainSpec:
    """Specify a training from values that a user gave.

    Args:
        method: The method's name.
        settings: Its settings; relative paths are relative to the working directory.
        task: The task, or fields of `TaskSpec`.
        training: The training options, or fields of `TrainingSpec`.
        model: Directory or Hub name of the base model; None: the task's.

    Returns:
        The specification.

    Raises:
        AutorankError: The method or a setting is unknown, or values are invalid; all of them are reported at once.
    """
    from pydantic import ValidationError

    from autorank.spec import TrainSpec

    settings = absolute_paths(method, settings)
    problems = []
    try:
        configure(method, settings)
    except AutorankError as error:
        problems.append(str(error))
    values = {"task": task, "model": model, "method": method, "settings": settings, "training": training}
    try:
        spec = TrainSpec.model_validate(values)
    except ValidationError as error:
        problems.append(str(explain(error, "The training")))
    if problems:
        raise AutorankError("\n".join(problems))
    return spec


def absolute_paths(method: str, settings: Mapping[str, Any], directory: Path | None = None) -> dict[str, Any]:
    """Make relative paths among the settings of a method absolute, for trials run in other directories.

    Args:
        method: The method's name.
        settings: Its settings, or ranges of them.
        directory: Directory of relative paths; None: the working directory.

    Returns:
        All settings, with absolute paths as text.
    """
    fields = find(method).Config.model_fields

    def absolute(value: Any) -> Any:
        if isinstance(value, Mapping) and "choices" in value:
            return {**value, "choices": [absolute(choice) for choice in value["choices"]]}
        if isinstance(value, str | Path):
            return str((directory or Path()).absolute() / Path(value).expanduser())
        return value

    return {
        name: absolute(value) if name in fields and _is_path(fields[name].annotation) else value
        for name, value in settings.items()
    }


def _is_path(annotation: Any) -> bool:
    """Whether a setting of this type is a path: `Path`, `Path | None`."""
    return annotation is Path or Path in get_args(annotation)


def _points() -> list[importlib.metadata.EntryPoint]:
    """The entry points of all methods, those of AUTORANK_METHODS first."""
    return [*_from_variable(), *_installed()]


def _from_variable() -> list[importlib.metadata.EntryPoint]:
    """The methods of AUTORANK_METHODS."""
    points = []
    for entry in filter(None, map(str.strip, os.environ.get(METHODS_VARIABLE, "").split(","))):
        name, _, target = (part.strip() for part in entry.partition("="))
        module, _, kind = target.partition(":")
        if not (name and module and kind):
            raise AutorankError(
                f"{METHODS_VARIABLE} contains {entry!r}. Expected NAME=MODULE:CLASS, separated by commas."
            )
        points.append(importlib.metadata.EntryPoint(name, target, GROUP))
    return points


@cache  # reading the installed packages takes 12 ms, and every trial needs it
def _installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))
