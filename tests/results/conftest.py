"""A spec, and one MLflow store for the session: its first opening runs migrations for seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from autorank.spec import SearchSpec, TaskSpec, TrainSpec


@pytest.fixture
def spec() -> SearchSpec:
    train = TrainSpec(task=TaskSpec(name="demo"), method="lora-drop")
    return SearchSpec(name="first", train=train, space={"rank": {"type": "int", "low": 1, "high": 8}})


@pytest.fixture
def sampler() -> Callable[[], optuna.samplers.BaseSampler]:
    return lambda: optuna.samplers.TPESampler(seed=0, n_startup_trials=2)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite tracking store; experiments in it are told apart by the name of their search."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    folder: Path = tmp_path_factory.mktemp("store")
    return f"sqlite:///{folder / 'mlflow.db'}"
