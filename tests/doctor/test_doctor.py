"""`autorank doctor` where something is broken, and where nothing is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autorank import cache
from autorank.doctor import Finding, connections, installed, machine
from autorank.errors import AutorankError
from tests.tasks import loopback_hub

SECRET = "s3cr3t"


@pytest.fixture
def closed() -> str:
    """An address of this machine where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def only(found: Any) -> Finding:
    (finding,) = found
    assert isinstance(finding, Finding)
    assert finding.remedy or finding.state != "problem"
    return finding


def test_this_machine_from_a_shell(tmp_path: Path, closed: str) -> None:
    """Nothing is written, Ray is not started, and both forms tell the same."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "autorank.cli.app", "doctor", "--runs", "runs"]
    code = "import autorank.cli.app as c, sys, ray; c.app(['doctor', '--json'], standalone_mode=False); "
    code += "assert not ray.is_initialized()"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    found = {each["subject"]: each for each in json.loads(told.stdout)}
    assert told.returncode == 0, told.stderr
    for name in ("Python", "packages", "runs", "cache", "Hub", "MLflow", "torch", "GPU", "Ray", "methods"):
        assert found[name]["state"] in ("ok", "note"), found[name]
    bad = subprocess.run(
        [*command, "--tracking-uri", closed.replace("//", f"//me:{SECRET}@")], cwd=tmp_path, env=env,
        capture_output=True, text=True,
    )  # fmt: skip
    assert bad.returncode == 1 and "problem  MLflow" in bad.stdout and SECRET not in bad.stdout + bad.stderr
    assert "Traceback" not in bad.stderr and bad.stdout.rstrip().endswith("1 problem found.")
    assert {file.name for file in tmp_path.iterdir()} <= {"cache"}


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = only(machine.folder("runs", tmp_path / "not" / "there", "Choose."))
    assert fine.state in ("ok", "note") and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for beneath in (tmp_path / "file" / "runs", tmp_path / "file", Path("/proc/runs")):
        found = only(machine.folder("runs", beneath, "Choose."))
        assert (found.state, found.remedy) == ("problem", "Choose.") and str(beneath) in found.text
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 2e8}))
    assert only(machine.folder("runs", tmp_path, "Choose.")).state == "problem"


def test_a_cache_in_nobodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORANK_CACHE", "~nosuchuser/x")
    found = only(machine.cache())
    assert found.state == "problem" and "~nosuchuser/x" in found.text and "AUTORANK_CACHE" in found.remedy
    with pytest.raises(AutorankError, match="~nosuchuser/x"):
        cache.folder()


def test_packages_that_are_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(installed.packages()).state == "ok"
    version = importlib.metadata.version

    def planted(name: str) -> str:
        if name in ("opencensus", "bitsandbytes"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "peft" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", planted)
    found = {each.text: each for each in installed.packages()}
    assert {each.state for each in found.values()} == {"problem"}
    assert found["opencensus is missing"].remedy.startswith("pip install 'ray[default,train,tune]")
    assert any(text.startswith("peft is 0.1, required is >=") for text in found)
    (optional,) = [each for each in installed.optional() if each.subject == "bitsandbytes"]
    assert optional.state == "note" and optional.remedy == "pip install bitsandbytes"


@pytest.mark.parametrize("module", ["torch", "ray", "huggingface_hub", "packaging.requirements", "numpy", "sqlite3"])
def test_a_package_that_cannot_be_imported_is_a_line(module: str, tmp_path: Path) -> None:
    """In a process of its own, where the rest of the checks goes on."""
    code = f"import sys; sys.modules['{module}'] = None\n"
    code += "import autorank.cli.app as c; sys.argv = ['autorank', 'doctor', '--json']; c.main()"
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert any(each["state"] == "problem" and module in each["text"] and each["remedy"] for each in found)
    assert found[-1]["subject"] == "methods"


def test_a_method_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from autorank import methods

    there = methods.find

    def find(name: str) -> Any:
        if name == "vera":
            raise ModuleNotFoundError("No module named 'gone'")
        return there(name)

    monkeypatch.setattr(methods, "find", find)
    found = only(installed.methods())
    assert found.state == "problem" and found.text == "vera: ModuleNotFoundError: No module named 'gone'"


def test_the_hub(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with loopback_hub.serve({}) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        found = only(connections.hub())
    assert found.state == "ok" and "a token is set" in found.text and SECRET not in found.text
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed.replace("//", f"//me:{SECRET}@"))
    found = only(connections.hub())
    assert found.state == "note" and "HF_HUB_OFFLINE=1" in found.remedy and SECRET not in found.text
    monkeypatch.setenv("HF_ENDPOINT", closed)
    found = only(connections.hub())
    assert found.state == "problem" and found.remedy == "Check HF_ENDPOINT."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert only(connections.hub()).state == "note"


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in only(connections.hub()).text


def test_mlflows_file(tmp_path: Path) -> None:
    assert only(connections.store(tmp_path, None)).state == "ok" and not list(tmp_path.iterdir())
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE runs (id)")
    before = file.read_bytes()
    assert only(connections.store(tmp_path, None)).state == "ok"
    assert file.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["mlflow.db"]
    file.write_bytes(b"no database at all" * 100)
    found = only(connections.store(tmp_path, None))
    assert found.state == "problem" and "not a database" in found.text


def test_mlflows_server(tmp_path: Path, closed: str) -> None:
    before = dict(os.environ)
    for uri in (closed.replace("//", f"//me:{SECRET}@"), f"postgresql://me:{SECRET}@127.0.0.1:1/runs", "nonsense"):
        found = only(connections.store(tmp_path, uri))
        assert found.state == "problem" and SECRET not in found.text + found.remedy
    assert dict(os.environ) == before
