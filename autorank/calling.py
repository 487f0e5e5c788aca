"""Makes the package `autorank.search` what the command of its name is too: a function to call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """`autorank.search`, which is the function `autorank.api.search` too, for calls, `inspect` and `help`."""

    def __call__(self, *nothing: Any, **options: Any) -> Any:
        from autorank.api import search

        return search(*nothing, **options)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        """By name, as pickles have other modules: functions that use it travel to Ray's workers."""
        return import_module, (self.__name__,)

    @property
    def __signature__(self) -> inspect.Signature:
        from autorank.api import search

        return inspect.signature(search)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        from autorank.api import search

        return inspect.getdoc(search)
