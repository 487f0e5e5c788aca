"""Nodes that see a search's directory, and one that does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.searching.ray import shared_storage_check
from autorank.searching.ray.scheduler import _death
from autorank.trials.retention import storage_folder

CLUSTER = """
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from autorank.errors import AutorankError
from autorank.searching.ray import shared_storage_check as storage

folder, answer = Path(sys.argv[1]), storage.answer


def partly_failing(directory, node):
    "Node 2 does not see the directory, node 3 may not write there, node 4 does not answer."
    number = {node_id: n for n, node_id in enumerate(order, 1)}[node]
    if number == 2:
        directory = Path("/nowhere") / directory.name
    if number == 3:
        raise PermissionError(13, "Permission denied")
    if number == 4:
        time.sleep(600)
    answer(directory, node)


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 78 * 2**20})
try:
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=n, object_store_memory=78 * 2**20) for n in (1, 0))]
    ray.init(cluster.address, log_to_driver=False)
    order = [node.node_id for node in nodes]
    storage.check(folder)
    print("all see it", [file.name for file in folder.iterdir()])
    busy = ray.remote(num_cpus=1)(lambda: time.sleep(600))
    tasks = [busy.remote() for _ in range(2)]
    storage.check(folder)
    print("busy ones too")
    order = [order[0], order[1]]
    storage.answer = partly_failing
    for _ in range(2):
        try:
            storage.check(folder)
        except AutorankError as error:
            print(str(error).replace(nodes[1].node_id[:8], "TWO").replace(nodes[0].node_id[:8], "ONE"))
        print([file.name for file in folder.iterdir()])
        order, storage.ALL_NODES_TIMEOUT_S = ["", "", nodes[0].node_id, nodes[1].node_id], 10
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_two_nodes(tmp_path: Path) -> None:
    """Both see the directory, also while busy; then one does not see it, one may not write, one does not answer."""
    folder, script = tmp_path / "runs", tmp_path / "cluster.py"
    folder.mkdir()
    script.write_text(CLUSTER)
    process = subprocess.run(
        [sys.executable, script, folder],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ
        | {"PYTHONPATH": str(Path(shared_storage_check.__file__).parents[3]), "RAY_AUTH_MODE": "disabled"},
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[:2] == ["all see it []", "busy ones too"]
    assert lines[2] == lines[6] == f"Not all nodes of the cluster share {folder}:"
    first_line, second_problems = lines[3], "\n".join(lines[7:9])
    assert "(node TWO) does not see the directory" in first_line and first_line.strip()[0].isdigit()  # its IP address
    assert "(node ONE) cannot read and write there (Permission denied)" in second_problems
    assert "(node TWO) did not answer within 10 seconds" in second_problems
    assert "--runs DIR" in lines[4] and lines[5] == lines[10] == "[]"


def test_one_node(ray, tmp_path: Path) -> None:
    shared_storage_check.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutorankError, match=r"Cannot write to .*file: .*Not a directory.*Check its address"):
        shared_storage_check.check(tmp_path / "file")
    with pytest.raises(
        AutorankError, match=r"Cannot write to http://127\.0\.0\.1:9/x: this kind of storage is read-only"
    ):
        shared_storage_check.check(storage_folder("http://127.0.0.1:9", "x"))


def no_folder(directory: Path, node: str) -> None:
    (Path("/nowhere") / directory.name / node).read_text()


def no_permission(directory: Path, node: str) -> None:
    raise PermissionError(13, "Permission denied")


def other_folder(directory: Path, node: str) -> None:
    """A node that writes to another directory of the same name."""


def no_package(directory: Path, node: str) -> None:
    raise ModuleNotFoundError("No module named 'autorank'")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (no_folder, "does not see the directory"),
        (no_permission, "cannot read and write there (Permission denied)"),
        (other_folder, "wrote a file that does not show up here"),
        (no_package, "failed: ModuleNotFoundError: No module named 'autorank'"),
    ],
)
def test_a_node_that_cannot_use_the_folder_is_reported(
    ray, answer, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_storage_check, "FILE_VISIBILITY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(shared_storage_check, "answer", answer)
    with pytest.raises(AutorankError) as raised:
        shared_storage_check.check(tmp_path)
    first, second, last = str(raised.value).splitlines()
    assert first == f"Not all nodes of the cluster share {tmp_path}:" and "--runs DIR" in last
    assert re.fullmatch(rf"  [0-9a-f.:]+ \(node [0-9a-f]{{8}}\) {re.escape(message)}", second)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(2, "No such file"), shared_storage_check.NotShared),
        (PermissionError(13, "Permission denied"), shared_storage_check.NotShared),
        (OSError(5, "SlowDown: reduce your\nrequest rate"), shared_storage_check.Unreachable),
        (RuntimeError("SlowDown"), shared_storage_check.Unreachable),
    ],
)
def test_failing_storage_is_distinguished_from_a_missing_folder(
    ray, error: Exception, kind: type, tmp_path: Path
) -> None:
    """A trial that could not read is retried like any other whose process died; its node may see the directory."""

    def refuse(file: Path) -> str:
        raise error

    with shared_storage_check.keep_mount_token(tmp_path) as mount_token, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_storage_check, "read", refuse)
        with pytest.raises(shared_storage_check.Unreachable) as raised:
            shared_storage_check.check_from_node(mount_token)
    assert type(raised.value) is kind
    death = _death(
        f"ray::WarmTrial.train()\nautorank.searching.ray.shared_storage_check.{kind.__name__}: {raised.value}\n"
    )
    assert death.storage_missing == (kind is shared_storage_check.NotShared)
    assert str(tmp_path) in death.reason and (death.storage_missing or "SlowDown" in death.reason)


def test_a_mount_token_that_cannot_be_deleted_hides_no_error(
    ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of object storage raise other errors than OSError."""

    def refuse(file: Path, *arguments: object) -> None:
        raise RuntimeError("AccessDenied")

    with pytest.raises(KeyError, match="what went wrong"), shared_storage_check.keep_mount_token(tmp_path):
        monkeypatch.setattr(Path, "unlink", refuse)
        raise KeyError("what went wrong")


def test_reasons_of_deaths_contain_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    assert _death("OSError: planted-secret is refused by https://me:hush@storage").reason == (
        "OSError: *** is refused by https://storage"
    )


def test_a_file_may_be_late(tmp_path: Path) -> None:
    """Network storage shows another node's files after a while."""
    from threading import Timer

    (tmp_path / "place").mkdir()
    file = tmp_path / "place" / "answer"
    Timer(0.5, file.write_text, ["token"]).start()
    assert shared_storage_check.read(file) == "token"
