"""One MLflow store per session, since creating its tables takes seconds, and `MLflowSync` of a search."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from autorank.tracking.mlflow_sync import MLflowSync
from tests.tracking.mlflow_reader import PROVENANCE
from tests.trials.fixtures import spec, trials

__all__ = ["spec", "trials"]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite tracking store; the experiments in it have the names of their searches."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    folder: Path = tmp_path_factory.mktemp("store")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(store)


@pytest.fixture
def own(spec):
    """A spec with a name of its own, so that the store of the session can be shared."""
    return spec.model_copy(update={"name": f"search-{uuid.uuid4().hex[:6]}"})


@pytest.fixture
def new_sync(store, own):
    """Create an `MLflowSync` without state, as another process would for the same search."""
    return lambda search_id="s1", uri=store: MLflowSync(uri, own, search_id, provenance=PROVENANCE)


@pytest.fixture
def server_runs(client, own):
    """Return the parent run and the nested runs by trial number; check that the search has no other runs."""

    def read(search_id="s1"):
        experiment = client.get_experiment_by_name(own.name).experiment_id
        runs = [r for r in client.search_runs([experiment]) if r.data.tags["autorank.search"] == search_id]
        nested = {int(r.data.tags["autorank.trial"]): r for r in runs if "autorank.trial" in r.data.tags}
        (parent,) = (r for r in runs if "autorank.trial" not in r.data.tags)
        assert len(runs) == 1 + len(nested)
        return parent, nested

    return read


@pytest.fixture
def front_of(client, store, monkeypatch):
    """The front as MLflow's own reader of tables returns it; it knows only the global store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return lambda run: client.load_table(run.info.experiment_id, "front_table.json", [run.info.run_id])
