"""A model and data for trials."""

from __future__ import annotations

from typing import Any

import pytest

from tests import tiny_models


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny model and the user's own data, as options; an epoch has 4 steps, the last of 12 examples."""
    folder = tmp_path_factory.mktemp("trials")
    data = {"data": tiny_models.pairs_folder(folder / "data", 60, 20), "text": ("left", "right"), "label": "label"}
    return {"model": tiny_models.model("bert", folder / "model"), **data, "epochs": 3, "batch_size": 16}
