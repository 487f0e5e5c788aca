"""Detection of Git LFS pointers."""

from __future__ import annotations

from pathlib import Path

from autorank.git_lfs import pointers

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1048576\n"


def test_pointers_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text(POINTER)
    (tmp_path / "README.md").write_text(f"A pointer looks like this: {POINTER}")
    (tmp_path / "long.txt").write_text(POINTER + 1000 * "x")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    assert pointers(tmp_path) == ["model.safetensors"]
