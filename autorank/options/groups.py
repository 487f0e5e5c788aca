"""Turns dataclasses of options into options of a command, or into keyword arguments of a Python function."""

from __future__ import annotations

import inspect
import math
import os
import re
import reprlib
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
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import typer
from typer.models import ArgumentInfo

from autorank.errors import AutorankError, unknown
from autorank.options.data_object import DataObject

P = ParamSpec("P")
G = TypeVar("G")
G_co = TypeVar("G_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S")
PYTHON: dict[Any, tuple[str, Any]] = {  # type of an option -> the value expected in Python, in words and as a class
    bool: ("True or False", bool),
    int: ("an integer", Integral),
    float: ("a number", Real),
    str: ("a string", str),
    Path: ("a path", os.PathLike),
    Mapping: ("a dict", Mapping),
    list: ("a list of strings", Sequence),
    Sequence: ("a list of strings", Sequence),
    Callable: ("a function", Callable),
    DataObject: ("a pandas DataFrame or a datasets.Dataset", DataObject),
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of its arguments that are dataclasses of options.

    Args:
        command: The function; some of its parameters are annotated with such a dataclass.

    Returns:
        The function with the options as keyword parameters, for typer.
    """
    arguments = list(inspect.signature(command, eval_str=True).parameters.values())
    groups: dict[str, Any] = {arg.name: arg.annotation for arg in arguments if is_dataclass(arg.annotation)}
    options = [
        option.replace(annotation=_as_text(option.annotation))
        for group in groups.values()
        for option in _parameters(group)
    ]

    own_context = any(arg.annotation is typer.Context for arg in arguments)

    @wraps(command)
    def wrapper(ctx: typer.Context, **values: Any) -> None:
        given = [name for name in values if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"]
        built = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        for group in built.values():
            refuse_ignored(group, given)
        command(**built, **values, **({"ctx": ctx} if own_context else {}))

    if not own_context:
        options.append(inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    ungrouped = [arg.replace(kind=inspect.Parameter.KEYWORD_ONLY) for arg in arguments if arg.name not in groups]
    parameters = sorted([*options, *ungrouped], key=lambda parameter: not _is_argument(parameter))
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def refuse_ignored(group: Any, given: Collection[str]) -> None:
    """Check that no option is given that has no effect.

    Args:
        group: Options; its class may have a method `ignored`: option -> when it has no effect.
        given: Names of the options that the user gave in this call, not in a file of options.

    Raises:
        AutorankError: Lists the options that would be ignored.
    """
    ignored = group.ignored() if hasattr(group, "ignored") else {}
    if texts := [f"--{name.replace('_', '-')} has no effect {ignored[name]}." for name in ignored if name in given]:
        raise AutorankError(f"{' '.join(texts)} Leave it out.")


def _is_argument(parameter: inspect.Parameter) -> bool:
    """Whether a command's parameter is an argument rather than an option; arguments come first in the help."""
    return any(isinstance(entry, ArgumentInfo) for entry in get_args(parameter.annotation))


class Decorator(Protocol[P, G_co]):
    """The type of a decorator of a function, or a method, with one parameter: a group of options."""

    @overload
    def __call__(self, function: Callable[[G_co], R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, function: Callable[[S, G_co], R], /) -> Callable[Concatenate[S, P], R]: ...


def keywords(group: Callable[P, G], but: Collection[str] = ()) -> Decorator[P, G]:
    """Return a decorator that gives a function the fields of its group of options as keyword arguments.

    The options are described in the function's docstring, with the help of the command line.

    Args:
        group: The dataclass of options that is the function's last parameter.
        but: Fields that keep their default.

    Returns:
        The decorator.
    """
    options = [option for option in _parameters(group) if option.name not in but]

    def decorate(function: Any) -> Any:
        signature = inspect.signature(function)
        positional = list(signature.parameters.values())[:-1]  # a method's self

        @wraps(function)
        def call(*arguments: Any, **values: Any) -> Any:
            arguments += tuple(values.pop(p.name) for p in positional[len(arguments) :] if p.name in values)
            if len(arguments) != len(positional):
                raise TypeError(f"{function.__name__}() takes keyword arguments only, as in {options[0].name}=...")
            return function(*arguments, grouped(group, function.__name__, values, but))

        without_typer = [option.replace(annotation=get_args(option.annotation)[0]) for option in options]
        call.__signature__ = signature.replace(parameters=[*positional, *without_typer])  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n" + "\n".join(map(_described, options))
        return call

    return decorate


def grouped(group: Callable[..., G], function: str, values: Mapping[str, Any], but: Collection[str] = ()) -> G:
    """Return the group of options with these keyword arguments of a function.

    Args:
        group: The dataclass of options.
        function: The function's name, for error messages.
        values: The keyword arguments.
        but: Fields that the function does not take.

    Returns:
        The options.

    Raises:
        AutorankError: An unknown argument, or lists all values of a wrong type or out of bounds.
    """
    annotations = {option.name: option.annotation for option in _parameters(group) if option.name not in but}
    for name in values:
        if name not in annotations:
            raise unknown(f"option of {function}()", name, annotations)
    expected = {name: _expected(annotations[name], value) for name, value in values.items()}
    if wrong := [f"{name}={reprlib.repr(values[name])}: expected {text}" for name, text in expected.items() if text]:
        raise AutorankError(f"Invalid arguments of {function}():\n  " + "\n  ".join(wrong))
    options = group(**{name: _plain(value) for name, value in values.items()})
    defaults = group()
    refuse_ignored(options, {name for name, value in values.items() if _differs(value, getattr(defaults, name))})
    return options


def _plain(value: Any) -> Any:
    """The value, a number as Python's own type: NumPy's numbers cannot be written as JSON."""
    if isinstance(value, Integral):
        return value if isinstance(value, int) else int(value)
    return value if isinstance(value, float) or not isinstance(value, Real) else float(value)


def _differs(value: Any, default: Any) -> bool:
    """Whether a value is not the default. Data frames cannot be compared with `!=`; the default of `data` is None."""
    return value is not None if default is None else bool(value != default)


def _expected(annotation: Any, value: Any) -> str | None:
    """What an option expects in place of this value, or None if the value is valid. Typer checks the command line's."""
    declared, option = get_args(annotation)
    kinds = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    if value is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    bounded = (option.min, option.max) != (None, None)
    if any(_is(value, kind) for kind in kinds) and (not bounded or _within(value, option.min, option.max)):
        return None
    low = "" if option.min is None else f" of at least {option.min}"
    high = "" if option.max is None else f" and at most {option.max}"
    return " or ".join(dict.fromkeys(map(_in_words, kinds))) + low + high


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return PYTHON[get_origin(kind) or kind][0]


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    expected = PYTHON[get_origin(kind) or kind][1]
    if isinstance(value, bool):  # an integer in Python
        return expected is bool
    if expected is Sequence:  # a string is one in Python
        return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(x, str) for x in value)
    return isinstance(value, expected)


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
    """An option's annotation on the command line: the first of several types; the others are for Python only."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *option = get_args(annotation)
    if get_origin(kind) not in (Union, UnionType):
        return annotation
    first = get_args(kind)[0]
    return Annotated[first | None if NoneType in get_args(kind) else first, *option]


def _described(option: inspect.Parameter) -> str:
    """An option's entry in a docstring; `--other-option` becomes `other_option`."""
    about = re.sub(r"--([a-z][a-z-]+)", lambda match: match[1].replace("-", "_"), get_args(option.annotation)[1].help)
    return textwrap.fill(f"{option.name}: {about}", 100, initial_indent="    ", subsequent_indent="        ")
