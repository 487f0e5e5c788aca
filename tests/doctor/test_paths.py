"""`autorank doctor` about the user, the home and temporary directories, and other Ray processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from autorank.doctor import Finding, paths
from autorank.searching.ray.cluster import local_paths


def by_subject(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_user_without_an_entry_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {finding.state for finding in paths.user()} == {"ok"}
    monkeypatch.setattr("os.getuid", lambda: 54321)
    monkeypatch.setenv("HOME", "/proc/home")
    findings = by_subject(paths.user())
    assert findings["user"].state == findings["home"].state == "note"
    assert "54321 has no entry" in findings["user"].text and "/proc/home cannot be written" in findings["home"].text
    monkeypatch.delenv("HOME")
    assert by_subject(paths.user())["home"].text == "the home directory is unknown"


def test_a_temporary_directory_that_is_long_or_noexec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr("os.statvfs", lambda folder: SimpleNamespace(f_flag=0))
    assert {finding.state for finding in paths.temporary()} == {"ok"}
    monkeypatch.setattr("os.statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert by_subject(paths.temporary())["temporary"].state == "note"
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "d" * 60)
    finding = by_subject(paths.temporary())["Ray's files"]
    assert finding.state == "note" and finding.text.endswith(f"a local Ray uses /tmp/autorank-{os.getuid()}")
    monkeypatch.setattr(local_paths, "FALLBACK_PARENTS", ())
    finding = by_subject(paths.temporary())["Ray's files"]
    assert finding.state == "problem" and "RAY_TMPDIR" in finding.remedy


def test_another_ray_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    program = tmp_path / "raylet"  # the name of a process is that of its program
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        finding = by_subject(paths.other_ray())["other Ray"]
        assert finding.state == "note" and "runs on this machine" in finding.text and "--concurrency" in finding.remedy
    finally:
        process.kill()
        process.wait()
    monkeypatch.setattr("psutil.process_iter", lambda names: [])
    assert list(paths.other_ray()) == []
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "10.0.0.1:6379" in by_subject(paths.other_ray())["RAY_ADDRESS"].text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems ignore TMPDIR for Ray")
def test_ray_uses_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "d" * 60)
    assert by_subject(paths.temporary())["Ray's files"].state == "note"
