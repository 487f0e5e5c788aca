"""A model that several files use."""

from __future__ import annotations

import pytest

from tests import tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a BERT model."""
    return tiny_models.model("bert", tmp_path_factory.mktemp("model"))
