"""`autorank doctor` with and without problems."""

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
def closed_url(closed_port: int) -> str:
    """An address of this machine on which no server listens."""
    return f"http://127.0.0.1:{closed_port}"


@pytest.fixture(autouse=True)
def default_environment(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def only(findings: Any) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    assert finding.remedy or finding.state != "problem"
    return finding


def test_the_command_in_a_shell(tmp_path: Path, closed_url: str) -> None:
    """It writes nothing but the cache and does not start Ray."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "autorank.cli.app", "doctor", "--runs", "runs"]
    code = "import autorank.cli.app as c, sys, ray; c.app(['doctor', '--json'], standalone_mode=False); "
    code += "assert not ray.is_initialized()"
    report = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    findings = {finding["subject"]: finding for finding in json.loads(report.stdout)}
    assert report.returncode == 0, report.stderr
    for name in ("Python", "packages", "runs", "cache", "Hub", "MLflow", "torch", "GPU", "Ray", "methods"):
        assert findings[name]["state"] in ("ok", "note"), findings[name]
    result = subprocess.run(
        [*command, "--tracking-uri", closed_url.replace("//", f"//me:{SECRET}@")], cwd=tmp_path, env=env,
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1 and "problem  MLflow" in result.stdout and SECRET not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr and result.stdout.rstrip().endswith("1 problem found.")
    assert {file.name for file in tmp_path.iterdir()} <= {"cache"}


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = only(machine.folder("runs", tmp_path / "not" / "there", "Choose."))
    assert finding.state in ("ok", "note") and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "runs", tmp_path / "file", Path("/proc/runs")):
        finding = only(machine.folder("runs", folder, "Choose."))
        assert (finding.state, finding.remedy) == ("problem", "Choose.") and str(folder) in finding.text
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2e8}))
    assert only(machine.folder("runs", tmp_path, "Choose.")).state == "problem"


def test_a_cache_in_the_home_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORANK_CACHE", "~nosuchuser/x")
    finding = only(machine.cache())
    assert finding.state == "problem" and "~nosuchuser/x" in finding.text and "AUTORANK_CACHE" in finding.remedy
    with pytest.raises(AutorankError, match="~nosuchuser/x"):
        cache.folder()


def test_packages_that_are_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(installed.packages()).state == "ok"
    version = importlib.metadata.version

    def fake_version(name: str) -> str:
        if name in ("opencensus", "bitsandbytes"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "peft" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", fake_version)
    findings = {finding.text: finding for finding in installed.packages()}
    assert {finding.state for finding in findings.values()} == {"problem"}
    assert findings["opencensus is missing"].remedy.startswith("pip install 'ray[default,train,tune]")
    assert any(text.startswith("peft 0.1 is installed, >=") for text in findings)
    (optional,) = [finding for finding in installed.optional() if finding.subject == "bitsandbytes"]
    assert optional.state == "note" and optional.remedy == "pip install bitsandbytes"


@pytest.mark.parametrize("module", ["torch", "ray", "huggingface_hub", "packaging.requirements", "numpy", "sqlite3"])
def test_a_package_that_cannot_be_imported_is_a_problem(module: str, tmp_path: Path) -> None:
    """Checked in a separate process; the other checks still run."""
    code = f"import sys; sys.modules['{module}'] = None\n"
    code += "import autorank.cli.app as c; sys.argv = ['autorank', 'doctor', '--json']; c.main()"
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    findings = json.loads(result.stdout)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert any(
        finding["state"] == "problem" and module in finding["text"] and finding["remedy"] for finding in findings
    )
    assert findings[-1]["subject"] == "methods"


def test_a_method_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from autorank import methods

    original_find = methods.find

    def find(name: str) -> Any:
        if name == "vera":
            raise ModuleNotFoundError("No module named 'gone'")
        return original_find(name)

    monkeypatch.setattr(methods, "find", find)
    finding = only(installed.methods())
    assert finding.state == "problem" and finding.text == "vera: ModuleNotFoundError: No module named 'gone'"


def test_the_hub(monkeypatch: pytest.MonkeyPatch, closed_url: str) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with loopback_hub.serve({}) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        finding = only(connections.hub())
    assert finding.state == "ok" and "a token is set" in finding.text and SECRET not in finding.text
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed_url.replace("//", f"//me:{SECRET}@"))
    finding = only(connections.hub())
    assert finding.state == "note" and "HF_HUB_OFFLINE=1" in finding.remedy and SECRET not in finding.text
    monkeypatch.setenv("HF_ENDPOINT", closed_url)
    finding = only(connections.hub())
    assert finding.state == "problem" and finding.remedy == "Check HF_ENDPOINT."
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
    content = file.read_bytes()
    assert only(connections.store(tmp_path, None)).state == "ok"
    assert file.read_bytes() == content and [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    file.write_bytes(b"no database at all" * 100)
    finding = only(connections.store(tmp_path, None))
    assert finding.state == "problem" and "not a database" in finding.text


def test_mlflows_server(tmp_path: Path, closed_url: str) -> None:
    before = dict(os.environ)
    for uri in (closed_url.replace("//", f"//me:{SECRET}@"), f"postgresql://me:{SECRET}@127.0.0.1:1/runs", "nonsense"):
        finding = only(connections.store(tmp_path, uri))
        assert finding.state == "problem" and SECRET not in finding.text + finding.remedy
    assert dict(os.environ) == before
