"""A cache of autorank's in a directory of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def cached_in(folder: Path) -> Iterator[Path]:
    """Context in which autorank's cache is `folder / "cache"`; yields `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORANK_CACHE", str(folder / "cache"))
        yield folder
