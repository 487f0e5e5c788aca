"""Permission to run the Python code that comes with a model, given by the user for a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRUSTED = ContextVar("trusted", default=False)


@contextmanager
def trusting(code: bool) -> Iterator[None]:
    """Allow (`code`) or refuse to run code that comes with models within this context; see `--trust-remote-code`."""
    before = _TRUSTED.set(code)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


def trusted() -> bool:
    """Whether code that comes with models may run: the value of transformers' `trust_remote_code`."""
    return _TRUSTED.get()
