"""Jobs on a real cluster that asks for a token, and whose Python has no autorank."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.searching.ray.cluster.ray_head import bare_python, head

pytestmark = pytest.mark.slow
TOKEN = "0123456789abcdef0123456789abcdef"
OWN = ("--data", "pairs.jsonl", "--text", "left,right", "--label", "label", "--model", "model")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with data, a home with the cluster's token, and the head node's home."""
    folder = tmp_path_factory.mktemp("place")
    tiny.model("bert", folder / "model")
    tiny.pairs_file(folder / "pairs.jsonl", 120)
    (folder / "home" / ".ray").mkdir(parents=True)
    (folder / "home" / ".ray" / "auth_token").write_text(TOKEN)
    (folder / ".gitignore").write_text("home/\n")
    return folder


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("there")


@pytest.fixture(scope="module")
def address(there: Path) -> Iterator[str]:
    python = bare_python(there / "venv")
    assert subprocess.run([python, "-c", "import autorank"], capture_output=True, cwd=there).returncode == 1
    with head(python, there, TOKEN) as address:
        yield address


def autorank(address: str, workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    root = str(Path(__file__).parents[4])
    return subprocess.run(
        [sys.executable, "-m", "autorank.cli.app", "submit", "--address", address, *words], cwd=workspace, text=True,
        env=kept | {"HOME": str(workspace / "home"), "PYTHONPATH": root}, capture_output=True, timeout=300,
    )  # fmt: skip


def test_a_search(address: str, workspace: Path, there: Path) -> None:
    words = ("--working-dir", ".", "--", "search", "--method", "lora", *OWN, "--epochs", "1", "--trials", "2")
    done = autorank(address, workspace, *words, "--name", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[2/2] trial" in done.stdout and "autorank export tiny --knee" in done.stdout and done.stderr == ""
    assert list((there / "runs" / "tiny" / "trials").rglob("step-*.safetensors"))


def test_a_users_mistake_has_the_drivers_exit_code(address: str, workspace: Path) -> None:
    done = autorank(address, workspace, "--", "search", "--method", "lorra", "--task", "demo")
    assert done.returncode == 2 and "Did you mean 'lora'?" in done.stdout and "Traceback" not in done.stdout


def test_a_stopped_search_keeps_its_journal(address: str, workspace: Path, there: Path) -> None:
    words = ("--working-dir", ".", "--no-wait", "--", "search", "--method", "lora", *OWN, "--epochs", "4000")
    done = autorank(address, workspace, *words, "--name", "cut")
    assert done.returncode == 0, done.stderr
    journal = there / "runs" / "cut" / "journal.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and "evaluation:" in journal.read_text()):
        time.sleep(0.5)
    ways = dict(line.split(":", 1) for line in done.stdout.splitlines()[1:])
    told = {}
    for way in ("  stop it", "  follow it"):
        mode, *words = ways[way].split()
        assert mode == "RAY_AUTH_MODE=token" and words[:2] == ["ray", "job"]
        told[way] = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *words[1:]], check=True, capture_output=True, timeout=120,
            env=os.environ | {"HOME": str(workspace / "home"), "RAY_AUTH_MODE": "token"}, text=True,
        ).stdout  # fmt: skip
    assert "autorank resume cut" in told["  follow it"]
    from autorank.trials.journal.journal import Journal

    assert any(trial.evaluations for trial in Journal.open(there / "runs" / "cut").trials())
