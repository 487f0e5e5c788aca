"""A pack loses its process or its node: its trials continue in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from autorank.searching.budget import Budget
from autorank.searching.ray.stalls import trial_processes
from autorank.searching.search import search
from autorank.trials.snapshot import Snapshot
from tests.cache_dirs import cached_in
from tests.searching.packed_search import LORA, assert_equal, spec, write

pytestmark = pytest.mark.slow
TRIALS = 6

NODES = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from autorank.searching.budget import Budget
from autorank.searching.search import search
from autorank.spec import MethodSpec
from tests.searching.packed_search import LORA, assert_equal, spec, write
from tests.cache_dirs import cached_in

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
folder = Path(sys.argv[1])
write(folder)
rates = {"type": "categorical", "choices": [1e-2, 3e-2]}
lora = MethodSpec(method="lora", settings=LORA.settings, space={"rank": LORA.space["rank"], "learning_rate": rates})

def lose(snapshot):
    if nodes and sum(len(trial.evaluations) for trial in snapshot.trials) >= 8:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        nodes.clear()
        cluster.add_node(num_cpus=1)

def run(name, progress):
    budget = Budget(6, concurrency=4, lanes=2, address=cluster.address)  # two packs of one CPU each
    return search(spec(folder, name, lora, steps=32), folder / name, budget, progress=progress).snapshot

with cached_in(folder):
    lost, whole = run("lost", lose), run("whole", None)
assert_equal(lost, whole)
print("nodes to remove:", len(nodes))
"""


def test_the_process_of_a_pack_killed(ray: None, tmp_path: Path) -> None:
    write(tmp_path)
    killed: list[int] = []

    def kill(snapshot: Snapshot) -> None:
        """After the first evaluation, and in the second half."""
        evaluations = sum(len(trial.evaluations) for trial in snapshot.trials)
        if len(killed) < 2 and evaluations > 12 * len(killed):
            for process in trial_processes(psutil.Process(os.getpid())):
                if process.name().startswith("ray::PackActor") and process.pid not in killed:
                    process.kill()
                    killed.append(process.pid)

    with cached_in(tmp_path):
        undisturbed, interrupted = (
            search(
                spec(tmp_path, name, LORA, steps=32), tmp_path / name, Budget(TRIALS, concurrency=3, lanes=3),
                progress=progress,
            ).snapshot
            for name, progress in (("whole", None), ("cut", kill))
        )  # fmt: skip
    assert len(killed) == 2
    assert_equal(interrupted, undisturbed)


def test_a_node_with_a_pack_removed_from_a_cluster(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", NODES, str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "nodes to remove: 0"
