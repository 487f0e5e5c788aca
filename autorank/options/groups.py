"""Options in groups, each a dataclass with a field an option, put on a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of its arguments that are groups (the dataclasses above)."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY,
            annotation=get_type_hints(group, include_extras=True)[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for group in groups.values() for field in fields(group)
    ]  # fmt: skip

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
