"""Data of the tests of text generation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_language_models
from tests.cache_dirs import cached_in


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with texts and a cache."""
    folder = tmp_path_factory.mktemp("texts")
    tiny_language_models.data(folder / "data")
    with cached_in(folder):
        yield folder
