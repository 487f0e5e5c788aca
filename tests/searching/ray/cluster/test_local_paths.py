"""Where a local Ray keeps its sockets and its token: a long TMPDIR, directories that cannot be written, no home."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.searching.ray.cluster import local_paths


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path | str) -> None:
    """Simulate a user who may not write there; the tests may run as root, who may write everywhere."""
    access, forbidden = os.access, [Path(folder) for folder in folders]
    monkeypatch.setattr(
        "os.access",
        lambda path, mode: not (mode & os.W_OK and Path(path) in forbidden) and access(path, mode),
    )


def test_the_limit_is_that_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for length, fits in ((local_paths.MAX_SOCKET_PATH_BYTES, True), (local_paths.MAX_SOCKET_PATH_BYTES + 1, False)):
        with socket.socket(socket.AF_UNIX) as probe:
            name = "s" * length
            if fits:
                probe.bind(name)
            else:
                with pytest.raises(OSError, match="too long"):
                    probe.bind(name)


def test_a_long_directory_is_replaced_by_a_short_one_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = local_paths.MAX_SOCKET_PATH_BYTES - len(local_paths.LONGEST_SOCKET_SUFFIX) - len("/tmp/") - len("/ray")
    monkeypatch.setenv("TMPDIR", "/tmp/" + "d" * longest)
    assert local_paths.temp_dir() == Path("/tmp") / ("d" * longest) / "ray"
    monkeypatch.setenv("TMPDIR", "/tmp/" + "d" * (longest + 1))
    assert local_paths.temp_dir() == Path(f"/tmp/autorank-{os.getuid()}")
    assert "1 too many" in str(local_paths.problem(local_paths.default_temp_dir()))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/r")
    assert local_paths.temp_dir() == Path("/tmp/r/ray")


def test_a_directory_of_another_user_is_not_used(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = short_path / "a", short_path / "b"
    name = f"autorank-{os.getuid()}"
    for folder in (first, second):
        folder.mkdir()
    (first / name).symlink_to(tmp_path)  # as another user may do in /tmp
    monkeypatch.setattr(local_paths, "FALLBACK_PARENTS", (str(first), str(second)))
    monkeypatch.setenv("RAY_TMPDIR", str(short_path))
    read_only(monkeypatch, short_path)
    assert local_paths.temp_dir() == second / name
    read_only(monkeypatch, short_path, second)
    with pytest.raises(AutorankError, match=rf"{second}/{name} cannot be written\. Set RAY_TMPDIR to a directory with"):
        local_paths.temp_dir()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a") as folder:
        yield Path(folder)


def test_a_token_is_made_only_if_the_home_cannot_store_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    local_paths.ensure_token()
    assert "RAY_AUTH_TOKEN" not in os.environ and not list(tmp_path.iterdir())  # Ray makes it
    with monkeypatch.context() as patch:
        read_only(patch, tmp_path)
        assert local_paths.token_problem() == f"{tmp_path}/.ray cannot be written"
        patch.setenv("RAY_AUTH_TOKEN", "")  # restored later
        del os.environ["RAY_AUTH_TOKEN"]
        local_paths.ensure_token()
        token = os.environ["RAY_AUTH_TOKEN"]
        local_paths.ensure_token()
        assert len(token) == 64 and os.environ["RAY_AUTH_TOKEN"] == token
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    (tmp_path / ".ray" / "auth_token").chmod(stat.S_IRUSR)
    read_only(monkeypatch, tmp_path, tmp_path / ".ray")
    assert local_paths.token_problem() is None
