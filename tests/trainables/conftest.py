"""Fixtures of the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainables.trained import cached_in, write_model, write_pairs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with two models, `model` with dropout and `plain` without, the data, and a cache."""
    folder = tmp_path_factory.mktemp("conformance")
    write_model(folder / "model", dropout=0.1)
    write_model(folder / "plain", dropout=0.0)
    write_pairs(folder / "data", 60, 20)
    with cached_in(folder):
        yield folder
