"""Options in groups, each a dataclass with a field an option: put on a command, or taken by a function as keywords."""

from __future__ import annotations

import inspect
import math
import os
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from autorank.errors import AutorankError, unknown

P = ParamSpec("P")
G = TypeVar("G")
G_co = TypeVar("G_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S")
PYTHON: dict[Any, tuple[str, type]] = {  # an option's type -> what it takes from Python, in words and as a class
    bool: ("True or False", bool),
    int: ("a whole number", Integral),
    float: ("a number", Real),
    str: ("a text", str),
    Path: ("a path", os.PathLike),
    Mapping: ("a dict", Mapping),
    list: ("a list of texts", Sequence),
    Sequence: ("a list of texts", Sequence),
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of its arguments that are groups (the dataclasses above)."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}
    options = [
        each.replace(annotation=_as_text(each.annotation)) for group in groups.values() for each in _parameters(group)
    ]

    @wraps(command)
    def wrapper(**given: Any) -> None:
        built = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**built, **given)

    rest = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name not in groups]
    parameters = [*options, *rest]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


class Decorator(Protocol[P, G_co]):
    """Of a function of one group, or of a method of one."""

    @overload
    def __call__(self, function: Callable[[G_co], R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, function: Callable[[S, G_co], R], /) -> Callable[Concatenate[S, P], R]: ...


def keywords(group: Callable[P, G], but: Collection[str] = ()) -> Decorator[P, G]:
    """Let a function of one group take the group's fields as keyword arguments, each described in its docstring.

    Args:
        but: fields that are left as they are by default.
    """
    options = [option for option in _parameters(group) if option.name not in but]

    def decorate(function: Any) -> Any:
        whole = inspect.signature(function)
        this = list(whole.parameters.values())[:-1]  # a method's self

        @wraps(function)
        def call(*own: Any, **given: Any) -> Any:
            if len(own) != len(this):
                raise TypeError(f"{function.__name__}() takes keyword arguments only, as in {options[0].name}=...")
            return function(*own, grouped(group, function.__name__, given, but))

        plain = [option.replace(annotation=get_args(option.annotation)[0]) for option in options]
        call.__signature__ = whole.replace(parameters=[*this, *plain])  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n" + "\n".join(map(_described, options))
        return call

    return decorate


def grouped(group: Callable[..., G], function: str, given: Mapping[str, Any], but: Collection[str] = ()) -> G:
    """The group with these keyword arguments of `function`, which has not those in `but`.

    Raises:
        AutorankError: one that it does not have, or values of other types or out of their bounds; all of those at once.
    """
    known = {option.name: option.annotation for option in _parameters(group) if option.name not in but}
    for name in given:
        if name not in known:
            raise unknown(f"option of {function}()", name, known)
    wanted = {name: _wanted(known[name], value) for name, value in given.items()}
    if wrong := [f"{name}={given[name]!r}: wanted is {what}" for name, what in wanted.items() if what]:
        raise AutorankError(f"{function}() does not take these values:\n  " + "\n  ".join(wrong))
    return group(**given)


def _wanted(annotation: Any, value: Any) -> str | None:
    """What an option wants in place of this value, if it is not as it should be. Typer checks commands'."""
    kind, option = get_args(annotation)
    several = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if value is None and NoneType in several:
        return None
    kinds = [get_origin(each) or each for each in several if each is not NoneType]
    bounded = (option.min, option.max) != (None, None)
    if any(_is(value, each) for each in kinds) and (not bounded or _within(value, option.min, option.max)):
        return None
    least = "" if option.min is None else f" of at least {option.min}"
    most = "" if option.max is None else f" and at most {option.max}"
    return " or ".join(dict.fromkeys(PYTHON[each][0] for each in kinds)) + least + most


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):  # which is a whole number to Python
        return kind is bool
    if PYTHON[kind][1] is Sequence:  # as a text is to Python
        return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(x, str) for x in value)
    return isinstance(value, PYTHON[kind][1])


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)


def _parameters(group: Any) -> list[inspect.Parameter]:
    """A group's fields as keyword-only parameters, annotated with type and option."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(group)
    ]  # fmt: skip


def _as_text(annotation: Any) -> Any:
    """An option's annotation on a command line, where of several types the first counts; the others are Python's."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *option = get_args(annotation)
    if get_origin(kind) not in (Union, UnionType):
        return annotation
    first = get_args(kind)[0]
    return Annotated[first | None if NoneType in get_args(kind) else first, *option]


def _described(option: inspect.Parameter) -> str:
    """A line or two about an option; others that it names are named as in Python."""
    about = re.sub(r"--([a-z][a-z-]+)", lambda found: found[1].replace("-", "_"), get_args(option.annotation)[1].help)
    return textwrap.fill(f"{option.name}: {about}", 100, initial_indent="    ", subsequent_indent="        ")
