"""Models and data that tests of several files use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autorank.modeling import base_model
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables import prilora_runs, reference_training


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> base_model.BaseModel:
    """A tiny BERT model with a classification head."""
    return base_model.load(tiny_models.model("bert", tmp_path_factory.mktemp("base")), outputs=2)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a BERT model and data for comparisons with the plain references."""
    return reference_training.write(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `bert`, with a DeBERTa model."""
    return reference_training.write(tmp_path_factory.mktemp("deberta"), "deberta-v2")


@pytest.fixture(scope="module")
def prilora_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with models and data for runs of PRILoRA, and a cache."""
    folder = tmp_path_factory.mktemp("prilora")
    prilora_runs.write(folder)
    with cached_in(folder):
        yield folder
