"""A spec, and one MLflow store for the session: its first opening runs migrations for seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autorank.spec import SearchSpec
from tests.results.made_trials import search


@pytest.fixture
def spec() -> SearchSpec:
    return search()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite tracking store; experiments in it are told apart by the name of their search."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    folder: Path = tmp_path_factory.mktemp("store")
    return f"sqlite:///{folder / 'mlflow.db'}"
