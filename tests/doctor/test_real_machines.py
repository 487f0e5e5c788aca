"""`autorank doctor` on machines with unusual directories and users, simulated with Linux namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        sys.platform != "linux" or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
        reason="namespaces cannot be created here",
    ),
]


def doctor(folder: Path, preparation: str, unshare: list[str] = UNSHARE) -> dict[str, dict[str, str]]:
    """Run the command after a preparation in bash, in which $DIR is an empty directory; subject -> its finding."""
    (folder / "dir").mkdir()
    env = os.environ | {"HF_HUB_OFFLINE": "1", "AUTORANK_CACHE": str(folder / "cache"), "DIR": str(folder / "dir")}
    env.pop("RAY_TMPDIR", None)
    command = f"set -e; {preparation}; {sys.executable} -m autorank.cli.app doctor --json"
    result = subprocess.run([*unshare, "bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
    assert result.stdout and "Traceback" not in result.stderr, result.stderr
    return {finding["subject"]: finding for finding in json.loads(result.stdout)}


@pytest.mark.parametrize(
    ("preparation", "subject", "state", "text"),
    [
        (f"export TMPDIR=$DIR/{60 * 'd'}; mkdir $TMPDIR", "Ray's files", "note", "a local Ray uses /tmp/autorank-"),
        ("mount -t tmpfs -o ro none $DIR; export HOME=$DIR", "home", "note", "dir cannot be written"),
        ("mount -t tmpfs -o noexec none $DIR; export TMPDIR=$DIR", "temporary", "note", "is mounted noexec"),
        ("mount -t tmpfs -o size=64k none /dev/shm", "/dev/shm", "note", "Ray will use the slower /tmp"),
        (
            "mkdir $DIR/autorank-1.3.0.dist-info; export PYTHONPATH=$DIR:$PYTHONPATH; "
            r"printf 'Name: autorank\nVersion: 1.3.0\n' > $DIR/autorank-1.3.0.dist-info/METADATA",
            "autorank", "problem", "PyPI's statistics package autorank 1.3.0 is installed too",
        ),
        (
            "cp $(command -v sleep) $DIR/raylet; $DIR/raylet 60 & trap 'kill %1' EXIT", "other Ray", "note",
            "runs on this machine",
        ),
    ],
    ids=["long TMPDIR", "read-only HOME", "noexec", "tiny /dev/shm", "other autorank", "other Ray"],
)  # fmt: skip
def test_unusual_machines_are_reported(preparation: str, subject: str, state: str, text: str, tmp_path: Path) -> None:
    finding = doctor(tmp_path, preparation)[subject]
    assert finding["state"] == state and text in finding["text"] and finding["remedy"]


def test_a_user_without_an_entry_in_passwd(tmp_path: Path) -> None:
    finding = doctor(tmp_path, "true", ["unshare", "--user", "--map-user=54321"])["user"]
    assert finding["state"] == "note" and finding["text"] == "user id 54321 has no entry in /etc/passwd"
