"""Pointers of Git LFS, which a clone without Git LFS has in place of large files."""

from __future__ import annotations

from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"  # how they begin
LARGEST = 1024  # bytes of a pointer, by Git LFS's specification


def pointers(folder: Path) -> list[str]:
    """Names of the files in a directory that are pointers."""
    files = [file for file in folder.iterdir() if file.is_file() and file.stat().st_size < LARGEST]
    return sorted(file.name for file in files if file.read_bytes().startswith(POINTER))
