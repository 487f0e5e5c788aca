"""The local file system, with links to directories followed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class LocalFiles(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's local file system, which lists a link to a directory as a directory, so that its files are found.

    A link to a directory that contains it is listed as a file: following it would never end.
    """

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> list[Any]:
        """List a directory.

        Args:
            path: The directory.
            detail: Whether to return a dict for each entry, with its type, rather than its path.
            **kwargs: As fsspec has them.

        Returns:
            The entries.
        """
        entries: list[Any] = super().ls(path, detail=detail, **kwargs)
        for entry in entries if detail else ():
            if entry["islink"] and os.path.isdir(entry["name"]) and not _is_loop(entry["name"]):
                entry["type"] = "directory"
        return entries


def _is_loop(link: str) -> bool:
    """Whether a link leads to a directory on the path to it."""
    return os.path.realpath(link) in {os.path.realpath(parent) for parent in Path(link).parents}
