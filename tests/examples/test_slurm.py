"""Runs the Slurm script with stand-ins for the commands of Slurm, Ray and autorank."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from autorank.cli import app

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sbatch"
# Each stand-in writes its name and arguments to the file `calls`.
RECORD = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >> "$CALLS"\n'
SEARCH = """
[ -e finished ] && exit 0
trap 'touch finished; exit 130' USR1 INT TERM  # as autorank ends by a signal; the next one ends by itself
touch running
while :; do sleep 0.05; done
"""
RAY = """
[ "$1" = start ] || exit 0
trap 'echo "ray stopped" >> "$CALLS"; exit 0' TERM
while :; do sleep 0.05; done
"""
SRUN = """
while [ "${1#-}" != "$1" ]; do shift; done  # its own options
exec "$@"
"""


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Returns a function that starts the script as Slurm does."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in {
        "autorank": SEARCH, "ray": RAY, "srun": SRUN, "scontrol": "", "python": "cat > /dev/null",
        "hostname": "echo 10.0.0.7 10.1.0.7",
    }.items():  # fmt: skip
        (commands / name).write_text(RECORD + body)
        (commands / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "SLURM_JOB_ID": "123456",
        "SLURM_CPUS_PER_TASK": "8",
    }  # fmt: skip
    jobs = []

    def start(nodes: int) -> subprocess.Popen[str]:
        jobs.append(
            subprocess.Popen(
                ["bash", str(SCRIPT), "--method", "lora", "--name", "a b"],
                cwd=tmp_path,
                text=True,
                env=environment | {"SLURM_JOB_NUM_NODES": str(nodes)},
                stderr=subprocess.PIPE,
            )
        )
        return jobs[-1]

    yield start
    for process in jobs:
        if process.poll() is None:
            process.kill()


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []


def until_running(folder: Path) -> None:
    while not (folder / "running").exists():
        time.sleep(0.02)


def test_a_job_is_requeued_before_its_limit_and_continues(job: Any, tmp_path: Path) -> None:
    process = job(1)
    until_running(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 130 and process.stderr.read() == ""
    search = "autorank search --method lora --name a b"
    assert calls(tmp_path) == [search, "scontrol requeue 123456"]
    assert job(1).wait(60) == 0  # what Slurm runs again
    assert calls(tmp_path)[2:] == [search]


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_cancelled_job_ends(job: Any, tmp_path: Path, nodes: int) -> None:
    process = job(nodes)
    until_running(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert not [call for call in calls(tmp_path) if call.startswith("scontrol")]


def test_ray_is_started_on_all_nodes_and_stopped(job: Any, tmp_path: Path) -> None:
    (tmp_path / "finished").touch()
    assert job(3).wait(60) == 0
    deadline = time.monotonic() + 60
    while calls(tmp_path).count("ray stopped") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    recorded = calls(tmp_path)
    head, worker = (call for call in recorded if call.startswith("ray start"))
    if "--head" not in head:
        head, worker = worker, head
    assert "--node-ip-address=10.0.0.7 --port=23456 --num-cpus=8" in head and "--block" in head
    assert "--address=10.0.0.7:23456 --num-cpus=8" in worker and "--block" in worker
    (srun,) = [call for call in recorded if call.startswith("srun")]
    assert "--relative=1 --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8 ray start" in srun
    assert recorded.index("ray get-auth-token --generate") < min(recorded.index(head), recorded.index(worker))
    assert recorded.count("ray stopped") == 2


def test_the_commands_and_directives() -> None:
    text = SCRIPT.read_text()
    group: Any = typer.main.get_command(app.app)
    for words in re.findall(r"sbatch .*?examples/slurm.sbatch (.*)", text):
        options = dict(group.commands["search"].make_context("search", shlex.split(words)).params)
        assert options["runs"] == Path("/shared/runs")
    directives = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert directives["signal"] == "B:USR1@120" and "requeue" in directives and directives["open-mode"] == "append"
