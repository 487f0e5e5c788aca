"""Search spaces: ranges of a method's settings, read from YAML and checked against the method.

    rank: {type: int, low: 1, high: 16, log: true}     a range: type int or float, with optional log and step
    dropout: {choices: [0.0, 0.1]}                     a choice
    alpha: 16                                          a value: fixed

A range may say its `source:`, where its bounds come from.
"""

from __future__ import annotations

import importlib.resources
import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from autorank.errors import AutorankError, unknown
from autorank.methods import find, names
from autorank.searching.space import ranges as r

if TYPE_CHECKING:
    import optuna


BASELINE = "lora"
Source = Path | Mapping[str, Any] | None  # a file; what one would hold, for several methods by name; or their own


@dataclass(frozen=True)
class Space:
    """What is searched: `ranges` (setting -> range, as in YAML less its source) and the `fixed` settings."""

    ranges: dict[str, dict[str, Any]]
    fixed: dict[str, Any]


def load(method: str, file: Source = None, overrides: Iterable[str] = ()) -> Space:
    """The space of a method: its own or `file`'s, with `overrides` (`key=value`, the value in YAML) fixed.

    Raises:
        AutorankError: an unknown method, a file that cannot be read, or a space that is not valid, with every
            mistake listed.
    """
    where = f"The space in {file}" if isinstance(file, Path) else f"The space of {method}"
    if isinstance(file, Mapping):
        entries = _checked(file, where)
    else:
        entries = _parse(builtin(method) if file is None else _read(file), where)
    settings, mistakes = _overrides(overrides)
    entries |= settings
    ranged = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    if "learning_rate" not in ranged and "learning_rate" not in settings:
        mistakes.append(
            "learning_rate: must be a range, for methods compared at one learning rate prove nothing; "
            "to fix it all the same, --set learning_rate=VALUE"
        )
    ranged = {name: {key: entry[key] for key in entry if key != "source"} for name, entry in ranged.items()}
    space = Space(ranged, fixed={name: entry for name, entry in entries.items() if name not in ranged})
    mistakes += check(method, space)
    if mistakes:
        raise AutorankError(f"{where} is not valid:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
    return space


def load_all(methods: Sequence[str], file: Source = None, overrides: Sequence[str] = ()) -> dict[str, Space]:
    """Method -> its space; an override goes to the methods that have the setting.

    Raises:
        AutorankError: as `load` and `by_method`; an override that none of them knows.
    """
    if len(methods) == 1:
        return {methods[0]: load(methods[0], by_method(methods, file).get(methods[0]), overrides)}
    if not methods:
        raise AutorankError("--method names no method; `autorank methods` lists them.")
    if twice := [method for method in methods if methods.count(method) > 1]:
        raise AutorankError(f"--method names {twice[0]!r} twice.")
    given = by_method(methods, file)
    own: dict[str, list[str]] = {method: [] for method in methods}
    for text in overrides:
        name = text.partition("=")[0].strip()
        having = [method for method in methods if name in find(method).Config.model_fields]
        if not having:
            raise AutorankError(f"--set {text}: none of {', '.join(methods)} has a setting {name!r}.")
        for method in having:
            own[method].append(text)
    return {method: load(method, given.get(method), own[method]) for method in methods}


def by_method(methods: Sequence[str], source: Source) -> dict[str, Source]:
    """Method -> what `source` has for it; the baseline may be among them.

    Raises:
        AutorankError: one space for several methods, or one of a method that is not searched.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping) and set(source) & set(names()):
        for name in source:
            if name not in (*methods, BASELINE):
                raise unknown("method in the space", name, [*methods, BASELINE])
        return dict(source)
    if len(methods) > 1:
        what = f"--space {source}" if isinstance(source, Path) else "The space"
        raise AutorankError(f"{what} is one method's, but there are {len(methods)}: {', '.join(methods)}.")
    return {method: source for method in methods}


def parse_settings(overrides: Iterable[str]) -> dict[str, Any]:
    """Settings from `key=value` texts, the values in YAML.

    Raises:
        AutorankError: a text is something else.
    """
    settings, mistakes = _overrides(overrides)
    if mistakes:
        raise AutorankError("\n".join(mistakes))
    return settings


def builtin(method: str) -> str:
    """The YAML text of a method's own space: in `search_spaces`, else beside the method's module.

    Raises:
        AutorankError: an unknown method, or one without a space.
    """
    module = inspect.getfile(find(method))
    resource = importlib.resources.files("search_spaces") / f"{method.replace('-', '_')}.yaml"
    if resource.is_file():
        return resource.read_text(encoding="utf-8")
    beside = Path(module).with_suffix(".yaml")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    raise AutorankError(f"Method {method!r} brings no search space ({beside} is missing). Give one with --space FILE.")


def check(method: str, space: Space) -> list[str]:
    """Every mistake in a space: malformed ranges, settings that the method lacks, values that it refuses."""
    mistakes = []
    config = find(method).Config
    for name, entry in (space.ranges | space.fixed).items():
        found = r.problems(entry) if name in space.ranges else []
        if name not in config.model_fields:
            found.append(f"{method} has no such setting{r.hint(name, config.model_fields)}")
        elif not found:
            found = _refused(config, name, r.probes(entry) if name in space.ranges else [entry])
        mistakes += [f"{name}: {problem}" for problem in found]
    if not space.ranges:
        mistakes.append("every setting is fixed, nothing is left to search; `autorank train` makes one run")
    return mistakes or _refused_together(config, space)


def suggest(ranges: Mapping[str, r.Range], trial: optuna.Trial) -> dict[str, Any]:
    """A value for each range, from the trial's sampler."""
    return {name: r.draw(name, entry, trial) for name, entry in ranges.items()}


def _refused(config: type[BaseModel], name: str, values: Iterable[Any]) -> list[str]:
    """What a config says to each value of a setting, the other settings at their defaults."""
    found: dict[str, None] = {}
    for value in values:
        try:
            config(**{name: value})
        except ValidationError as error:
            messages = [each["msg"] for each in error.errors() if each["loc"][:1] == (name,)]
            found |= {f"{message.removeprefix('Value error, ')} (got {value!r})": None for message in messages}
    return list(found)


def _refused_together(config: type[BaseModel], space: Space) -> list[str]:
    """What the config says to pairs of values that are fine one by one."""
    found: dict[str, str] = {}
    for corner in _pairs({name: r.ends(entry) for name, entry in space.ranges.items()}):
        try:
            config(**(space.fixed | corner))
        except ValidationError as error:
            at = ", ".join(f"{name}={value}" for name, value in corner.items())
            for detail in error.errors():
                found.setdefault(detail["msg"].removeprefix("Value error, "), at)
    return [f"{message} (at {at})" for message, at in found.items()]


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


def _overrides(overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Settings from `key=value` texts, and what is wrong with them."""
    settings, mistakes = {}, []
    for text in overrides:
        name, equals, value = text.partition("=")
        try:
            parsed = yaml.load(value, Yaml)
        except yaml.YAMLError:
            parsed = value
        if not equals or not name.strip():
            mistakes.append(f"--set {text}: write --set key=value")
        elif isinstance(parsed, dict | list):
            mistakes.append(f"{name}: --set fixes one value (got {value}); a range belongs into a --space FILE")
        else:
            settings[name.strip()] = parsed
    return settings, mistakes


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(
            f"The space {file} cannot be read: {getattr(error, 'strerror', None) or error}. "
            "`autorank spaces METHOD` prints one to start from."
        ) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        entries = yaml.load(text, Yaml)
    except yaml.YAMLError as error:
        raise AutorankError(f"{where} is not YAML: {error}") from error
    return _checked(entries, where)


def _checked(entries: Any, where: str) -> dict[str, Any]:
    if not isinstance(entries, Mapping) or not all(isinstance(name, str) for name in entries):
        raise AutorankError(f"{where} must map settings to ranges, as in rank: {{type: int, low: 1, high: 16}}.")
    return dict(entries)


class Yaml(yaml.SafeLoader):
    """YAML with numbers as in YAML 1.2: PyYAML's own rules read 5e-5 as text."""


Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
