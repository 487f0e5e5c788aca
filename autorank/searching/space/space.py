"""Search spaces: ranges of a method's settings, read from YAML and checked against the method.

    rank: {type: int, low: 1, high: 16, log: true}     a range: type int or float, with optional log and step
    dropout: {choices: [0.0, 0.1]}                     a choice
    alpha: 16                                          a fixed value

`source:` of a range says where its bounds come from.
"""

from __future__ import annotations

import importlib.resources
import inspect
import itertools
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from autorank.errors import AutorankError, unknown
from autorank.methods import find, names
from autorank.searching.space import ranges
from autorank.searching.space.yaml_values import Yaml, read_overrides, yaml_errors

BASELINE = "lora"
# a file, its contents (or contents and files by method), or the built-in space
Source = Path | Mapping[str, Any] | None


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        ranges: Setting -> range, as in YAML, without its source.
        fixed: Settings that are not searched.
    """

    ranges: dict[str, dict[str, Any]]
    fixed: dict[str, Any]


def load(method: str, file: Source = None, overrides: Iterable[str] = ()) -> Space:
    """Return the space of a method.

    Args:
        method: Its name.
        file: The space; None: the built-in one.
        overrides: Settings to fix, as `key=value` with the value in YAML.

    Returns:
        The space.

    Raises:
        AutorankError: The method is unknown, the file cannot be read, or the space is not valid; all errors are listed.
    """
    source = f"The space in {file}" if isinstance(file, Path) else f"The space of {method}"
    if file is None or isinstance(file, Path):
        entries = _parse(builtin(method) if file is None else _read(file), source)
    else:
        entries = _checked(file, source)
    settings, mistakes = read_overrides(overrides)
    entries |= settings
    ranged = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    if "learning_rate" not in ranged and "learning_rate" not in settings:
        mistakes.append(
            "learning_rate: must be a range, because methods compared at one learning rate cannot be ranked; "
            "to fix it anyway, --set learning_rate=VALUE"
        )
    ranged = {name: {key: entry[key] for key in entry if key != "source"} for name, entry in ranged.items()}
    space = Space(ranged, fixed={name: entry for name, entry in entries.items() if name not in ranged})
    mistakes += check(method, space)
    if mistakes:
        raise AutorankError(f"{source} is not valid:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
    return space


def load_all(methods: Sequence[str], file: Source = None, overrides: Sequence[str] = ()) -> dict[str, Space]:
    """Return the space of each method; an override applies to the methods that have the setting.

    Args:
        methods: Their names.
        file: Spaces; None: the built-in ones.
        overrides: Settings to fix, as `key=value`.

    Returns:
        Method -> space.

    Raises:
        AutorankError: As `load` and `by_method`; or no method has the setting of an override.
    """
    if len(methods) == 1:
        return {methods[0]: load(methods[0], by_method(methods, file).get(methods[0]), overrides)}
    if not methods:
        raise AutorankError("--method names no method. `autorank methods` lists all methods.")
    if twice := [method for method in methods if methods.count(method) > 1]:
        raise AutorankError(f"--method lists {twice[0]!r} twice. List each method once.")
    spaces = by_method(methods, file)
    by_name: dict[str, list[str]] = {method: [] for method in methods}
    for text in overrides:
        name = text.partition("=")[0].strip()
        having = [method for method in methods if name in find(method).Config.model_fields]
        if not having:
            raise AutorankError(f"--set {text}: none of {', '.join(methods)} has a setting {name!r}.")
        for method in having:
            by_name[method].append(text)
    return {method: load(method, spaces.get(method), by_name[method]) for method in methods}


def by_method(methods: Sequence[str], source: Source) -> dict[str, Source]:
    """Return the part of `source` for each method; the baseline may be among them.

    Args:
        methods: The methods of the search.
        source: One space, or spaces by method.

    Returns:
        Method -> its part.

    Raises:
        AutorankError: `source` is one space but there are several methods, or it names a method that is not searched.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping) and set(source) & set(names()):
        for name in source:
            if name not in (*methods, BASELINE):
                raise unknown("method in the space", name, [*methods, BASELINE])
        return {name: Path(part).expanduser() if isinstance(part, str) else part for name, part in source.items()}
    if len(methods) > 1:
        subject = f"--space {source}" if isinstance(source, Path) else "The space"
        raise AutorankError(
            f"{subject} is for one method, but the search has {len(methods)}: {', '.join(methods)}. List the spaces by "
            "method, as `space:` in a file of options."
        )
    return {method: source for method in methods}


def builtin(method: str) -> str:
    """Return the YAML text of a method's built-in space: in `search_spaces`, or next to the method's module.

    Raises:
        AutorankError: The method is unknown or has no space.
    """
    module = inspect.getfile(find(method))
    resource = importlib.resources.files("search_spaces") / f"{method.replace('-', '_')}.yaml"
    if resource.is_file():
        return resource.read_text(encoding="utf-8")
    file = Path(module).with_suffix(".yaml")
    if file.is_file():
        return file.read_text(encoding="utf-8")
    raise AutorankError(f"Method {method!r} has no search space ({file} is missing). Give one with --space FILE.")


def check(method: str, space: Space) -> list[str]:
    """Return all errors in a space: invalid ranges, unknown settings, values that the method refuses."""
    mistakes = []
    config = find(method).Config
    for name, entry in (space.ranges | space.fixed).items():
        problems = ranges.problems(entry) if name in space.ranges else []
        if name not in config.model_fields:
            problems.append(f"{method} has no such setting{ranges.hint(name, config.model_fields)}")
        elif not problems:
            problems = _refused(config, name, ranges.probes(entry) if name in space.ranges else [entry])
        mistakes += [f"{name}: {problem}" for problem in problems]
    if not space.ranges:
        mistakes.append("every setting is fixed, nothing is left to search; `autorank train` makes one run")
    return mistakes or _refused_together(config, space)


def _refused(config: type[BaseModel], name: str, values: Iterable[Any]) -> list[str]:
    """A config's errors for each value of a setting, with the other settings at their defaults."""
    errors: dict[str, None] = {}
    for value in values:
        try:
            config(**{name: value})
        except ValidationError as error:
            messages = [detail["msg"] for detail in error.errors() if detail["loc"][:1] == (name,)]
            errors |= {f"{message.removeprefix('Value error, ')} (got {value!r})": None for message in messages}
    return list(errors)


def _refused_together(config: type[BaseModel], space: Space) -> list[str]:
    """A config's errors for pairs of values that are valid one by one."""
    corners: dict[str, str] = {}
    for corner in _pairs({name: ranges.ends(entry) for name, entry in space.ranges.items()}):
        try:
            config(**(space.fixed | corner))
        except ValidationError as error:
            corner_text = ", ".join(f"{name}={value}" for name, value in corner.items())
            for detail in error.errors():
                corners.setdefault(detail["msg"].removeprefix("Value error, "), corner_text)
    return [f"{message} (at {corner_text})" for message, corner_text in corners.items()]


def _pairs(ends: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Corners with every pair of ends of any two settings; the others are all at their first or all at their last end.

    All corners would be exponentially many.
    """
    for start in (0, -1):
        corner = {name: values[start] for name, values in ends.items()}
        yield corner
        for name, other in itertools.combinations(ends, 2):
            for value, its_value in itertools.product(ends[name], ends[other]):
                yield {**corner, name: value, other: its_value}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(
            f"The space {file} cannot be read: {getattr(error, 'strerror', None) or error}. "
            "`autorank spaces METHOD` prints a space that you can edit."
        ) from error


def _parse(text: str, source: str) -> dict[str, Any]:
    with yaml_errors(source):
        entries = yaml.load(text, Yaml)
    return _checked(entries, source)


def _checked(entries: Any, source: str) -> dict[str, Any]:
    if not isinstance(entries, Mapping) or not all(isinstance(name, str) for name in entries):
        raise AutorankError(
            f"{source} must map settings to ranges, as in rank: {{type: int, low: 1, high: 16}} "
            f"(got {reprlib.repr(entries)})."
        )
    return dict(entries)
