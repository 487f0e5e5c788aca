"""Extension of griffe: functions that take a command's options are documented with their parameters at runtime."""

from __future__ import annotations

import inspect
from functools import reduce
from importlib import import_module
from typing import Any

import griffe


class Options(griffe.Extension):
    """Replaces parameters and docstring of functions decorated with `keywords` by those that users see."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Look the function up in its module, imported."""
        if not any(str(decorator.value).startswith("keywords(") for decorator in func.decorators):
            return
        path = func.path.removeprefix(f"{func.module.path}.").split(".")
        function = reduce(getattr, path, import_module(func.module.path))
        func.docstring = griffe.Docstring(inspect.getdoc(function) or "", parent=func, parser="google")
        func.parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    parameter.name,
                    annotation=_text(parameter.annotation),
                    kind=griffe.ParameterKind[parameter.kind.name.lower()],
                    default=None if parameter.default is parameter.empty else _text(parameter.default),
                )
                for parameter in inspect.signature(function).parameters.values()
            )
        )


def _text(value: Any) -> str:
    return inspect.formatannotation(value) if isinstance(value, type) or "|" in str(value) else str(value)
