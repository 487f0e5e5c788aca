"""A model that several files use."""

from __future__ import annotations

import pytest

from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a BERT model."""
    return tiny.model("bert", tmp_path_factory.mktemp("model"))
