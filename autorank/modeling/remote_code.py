"""Whether code that comes with a model may be run: only where the user says so, for what is done within."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRUSTED = ContextVar("trusted", default=False)


@contextmanager
def trusting(code: bool) -> Iterator[None]:
    """Within it a model's own code is run if `code`, as `--trust-remote-code` says; else it is refused."""
    before = _TRUSTED.set(code)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


def trusted() -> bool:
    """What transformers is told."""
    return _TRUSTED.get()
