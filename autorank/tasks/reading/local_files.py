"""The local file system, with links to directories followed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class LocalFiles(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's local file system, which lists a link to a directory as a directory, so that its files are found.

    A link to a directory that contains it, or that is in `root` anyway, is not followed.

    Args:
        root: The directory in which files are listed, or a pattern.
    """

    def __init__(self, root: str = "") -> None:
        super().__init__()
        self._root = os.path.realpath(root.partition("*")[0].rpartition("/")[0] if "*" in root else root)

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
            if entry["islink"] and os.path.isdir(entry["name"]) and not self._is_listed(entry["name"]):
                entry["type"] = "directory"
        return entries

    def _is_listed(self, link: str) -> bool:
        """Whether a link leads to a directory in the root, or on the path to it."""
        target = Path(os.path.realpath(link))
        return target.is_relative_to(self._root) or target in {Path(os.path.realpath(p)) for p in Path(link).parents}
