"""Models and data that tests of several files use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainables import slow
from tests.trainables.trained import cached_in, write_model, write_pairs


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with two models, `model` with dropout and `plain` without, the data, and a cache."""
    folder = tmp_path_factory.mktemp("conformance")
    write_model(folder / "model", dropout=0.1)
    write_model(folder / "plain", dropout=0.0)
    write_pairs(folder / "data", 60, 20)
    with cached_in(folder):
        yield folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a BERT model and data for comparisons with the plain references."""
    return slow.write(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `bert`, with a DeBERTa model."""
    return slow.write(tmp_path_factory.mktemp("deberta"), "deberta-v2")
