"""Options in groups, each a dataclass with a field an option: put on a command, or taken by a function as keywords."""

from __future__ import annotations

import inspect
import math
import numbers
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from autorank.errors import AutorankError, unknown

P = ParamSpec("P")
G = TypeVar("G")
R = TypeVar("R")


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


def keywords(group: Callable[P, G]) -> Callable[[Callable[[G], R]], Callable[P, R]]:
    """Let a function of one group take the group's fields as keyword arguments, each described in its docstring."""
    options = _parameters(group)

    def decorate(function: Callable[[G], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*nothing: P.args, **given: P.kwargs) -> R:
            if nothing:
                raise TypeError(f"{function.__name__}() takes keyword arguments only, as in method='lora'")
            return function(grouped(group, function.__name__, given))

        plain = [option.replace(annotation=get_args(option.annotation)[0]) for option in options]
        returned = inspect.signature(function).return_annotation
        call.__signature__ = inspect.Signature(plain, return_annotation=returned)  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n" + "\n".join(map(_described, options))
        return call

    return decorate


def grouped(group: Callable[..., G], function: str, given: Mapping[str, Any]) -> G:
    """The group with these keyword arguments of `function`.

    Raises:
        AutorankError: one that it does not have, or numbers out of their bounds; all of those at once.
    """
    known = {option.name: option.annotation for option in _parameters(group)}
    for name in given:
        if name not in known:
            raise unknown(f"option of {function}()", name, known)
    wanted = {name: _wanted(known[name], value) for name, value in given.items()}
    if wrong := [f"{name}={given[name]!r}: wanted is {what}" for name, what in wanted.items() if what]:
        raise AutorankError(f"{function}() does not take these values:\n  " + "\n  ".join(wrong))
    return group(**given)


def _wanted(annotation: Any, value: Any) -> str | None:
    """What an option with bounds wants in place of this value, if it is not as it should be. Typer checks commands'."""
    kind, option = get_args(annotation)
    kinds: set[Any] = {kind, *get_args(kind)}
    if (option.min is None and option.max is None) or (value is None and NoneType in kinds):
        return None
    low = -math.inf if option.min is None else option.min
    high = math.inf if option.max is None else option.max
    if isinstance(value, numbers.Real if float in kinds else numbers.Integral) and low <= value <= high:  # type: ignore[operator]
        return None
    most = "" if option.max is None else f" and at most {option.max}"
    return f"a {'' if float in kinds else 'whole '}number of at least {option.min}{most}"


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
