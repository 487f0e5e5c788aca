"""Jobs on a real cluster that requires a token, and whose Python has no autorank."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import DATA_OPTIONS, users_folder
from tests.searching.ray.cluster.ray_head import bare_python, head

pytestmark = pytest.mark.slow
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's directory with data, and a home with the cluster's token."""
    folder = users_folder(tmp_path_factory.mktemp("place"))
    (folder / "home" / ".ray").mkdir(parents=True)
    (folder / "home" / ".ray" / "auth_token").write_text(TOKEN)
    (folder / ".gitignore").write_text("home/\n")
    return folder


@pytest.fixture(scope="module")
def head_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("there")


@pytest.fixture(scope="module")
def address(head_home: Path) -> Iterator[str]:
    python = bare_python(head_home / "venv")
    assert subprocess.run([python, "-c", "import autorank"], capture_output=True, cwd=head_home).returncode == 1
    with head(python, head_home, TOKEN) as address:
        yield address


def autorank(address: str, workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    root = str(Path(__file__).parents[4])
    return subprocess.run(
        [sys.executable, "-m", "autorank.cli.app", "submit", "--address", address, *words], cwd=workspace, text=True,
        env=inherited | {"HOME": str(workspace / "home"), "PYTHONPATH": root}, capture_output=True, timeout=300,
    )  # fmt: skip


def test_a_search(address: str, workspace: Path, head_home: Path) -> None:
    words = ("--working-dir", ".", "--", "search", "--method", "lora", *DATA_OPTIONS, "--epochs", "1", "--trials", "2")
    result = autorank(address, workspace, *words, "--name", "tiny")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[2/2] trial" in result.stdout and "autorank export tiny --knee" in result.stdout and result.stderr == ""
    assert list((head_home / "runs" / "tiny" / "trials").rglob("step-*.safetensors"))


def test_a_users_mistake_has_the_drivers_exit_code(address: str, workspace: Path) -> None:
    result = autorank(address, workspace, "--", "search", "--method", "lorra", "--task", "demo")
    assert result.returncode == 2 and "Did you mean 'lora'?" in result.stdout and "Traceback" not in result.stdout


def test_a_stopped_search_keeps_its_journal(address: str, workspace: Path, head_home: Path) -> None:
    words = ("--working-dir", ".", "--no-wait", "--", "search", "--method", "lora", *DATA_OPTIONS, "--epochs", "4000")
    result = autorank(address, workspace, *words, "--name", "cut")
    assert result.returncode == 0, result.stderr
    journal = head_home / "runs" / "cut" / "journal.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and "evaluation:" in journal.read_text()):
        time.sleep(0.5)
    commands = dict(line.split(":", 1) for line in result.stdout.splitlines()[1:])
    outputs = {}
    for label in ("  stop it", "  follow it"):
        mode, *words = commands[label].split()
        assert mode == "RAY_AUTH_MODE=token" and words[:2] == ["ray", "job"]
        outputs[label] = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *words[1:]], check=True, capture_output=True, timeout=120,
            env=os.environ | {"HOME": str(workspace / "home"), "RAY_AUTH_MODE": "token"}, text=True,
        ).stdout  # fmt: skip
    assert "autorank resume cut" in outputs["  follow it"]
    from autorank.trials.journal.journal import Journal

    assert any(trial.evaluations for trial in Journal.open(head_home / "runs" / "cut").trials())
