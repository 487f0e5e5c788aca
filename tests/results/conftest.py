"""A spec, its journal, and one MLflow store for the session: its first opening runs migrations for seconds."""

from __future__ import annotations

import math
import os
import uuid
from pathlib import Path

import pytest

from autorank.results.journal import Journal
from autorank.results.tracking import Projection
from autorank.spec import SearchSpec
from tests.results.journals import REFERENCE
from tests.results.made_trials import search, trial
from tests.results.projected import ABOUT


@pytest.fixture
def spec() -> SearchSpec:
    return search()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite tracking store; experiments in it are told apart by the name of their search."""
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
def project(store, own):
    """Another process's view of the same search: a projection that knows nothing yet."""
    return lambda search_id="s1", uri=store: Projection(uri, own, search_id, REFERENCE, about=ABOUT)


@pytest.fixture
def trials():
    return [
        trial(0, (100, 0.6), (100, 0.7)),
        trial(1, (50, 0.65), state="pruned", reason="behind its peers"),
        trial(2, (200, math.nan), state="failed", reason="diverged at step 10"),
        trial(3, (400, 0.9), state="running"),
    ]


@pytest.fixture
def server_runs(client, own):
    """The parent and the nested runs by trial number, after checking that there are no others."""

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


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "first"


@pytest.fixture
def journal(folder, spec):
    with Journal.create(folder, spec, REFERENCE) as journal:
        yield journal
