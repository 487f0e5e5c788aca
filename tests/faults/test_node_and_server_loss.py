"""A node of the cluster or the MLflow server fails during a search."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import users_folder
from tests.faults.searches import EXAMPLES, TRIALS, start
from tests.sockets import free_port
from tests.tracking.server import mlflow_server

pytestmark = pytest.mark.slow

NODES = """
import sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster
from autorank.searching.create import open_journal
from autorank.searching.budget import Budget
from autorank.searching.search import run_missing_trials
from autorank.searching.ray.actors.trainable import bind
from tests.searching.fake_runs import FakeTrial, bounds, search_spec

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
spec = search_spec(halving=None, sampler="random")  # which asks for the same, whoever is quicker

def lose(snapshot):
    if nodes and sum(len(trial.evaluations) for trial in snapshot.trials) >= 4:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        nodes.clear()

for name, progress in (("lost", lose), ("whole", None)):
    with open_journal(spec, Path(sys.argv[1]) / name, lambda: (64.0, 0.0)) as journal:
        trainable = bind(FakeTrial, folder=journal.folder, plans={None: "slow"})
        budget = Budget(8, concurrency=2, address=cluster.address)
        snapshot = run_missing_trials(journal, trainable, bounds, budget, progress=progress).snapshot
        trials = [
            (t.state, t.retries, t.settings, [(e.step, e.adapter_params, e.score) for e in t.evaluations])
            for t in snapshot.trials
        ]
        print(len(nodes), repr((trials, [(p.trial, p.step, p.adapter_params, p.score) for p in snapshot.points])))
"""


def test_a_node_removed_from_a_cluster(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", NODES, str(tmp_path / "standin")], capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr
    interrupted, undisturbed = result.stdout.splitlines()[-2:]
    assert interrupted == undisturbed and interrupted.startswith("0 ([") and interrupted.count("('complete', 0, ") == 8


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_mlflow_server_stopped_and_restarted(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    workspace, port = users_folder(tmp_path, EXAMPLES), free_port()
    journal = workspace / "runs" / "away" / "journal.log"
    with mlflow_server(workspace, port) as uri:
        search = start(workspace, "away", "--tracking-uri", uri)
        wait_for(lambda: journal.exists() and journal.read_text().count("evaluation:") >= 4)
    wait_for(lambda: journal.read_text().count("evaluation:") >= 12)
    with mlflow_server(workspace, port):
        printed, _ = search.communicate(timeout=600)
        assert search.returncode == 0, printed
        assert printed.count("cannot be reached") == 1
        if "MLflow is incomplete" in printed:  # on a slow machine the search ends before all is sent
            command = [sys.executable, "-m", "autorank.cli.app", "sync", "away", "--tracking-uri", uri]
            subprocess.run(command, cwd=workspace, check=True, timeout=300)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("away")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == TRIALS + 1 and {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
