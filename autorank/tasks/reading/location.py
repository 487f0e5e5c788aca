"""Forms of `--data`: a path, an address such as `s3://bucket/train.csv`, or a dataset on the Hub."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(:(?P<configuration>[^/\\]+))?", re.ASCII)
EXTENSIONS = (
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".gz", ".bz2", ".xz", ".zip",
)  # fmt: skip


def is_address(data: str) -> bool:
    """Whether data is an address of a remote file system."""
    return "://" in data


def is_path(data: str) -> bool:
    """Whether data is a path or a pattern of paths."""
    return not is_address(data) and on_hub(data) is None


def on_hub(data: str) -> tuple[str, str | None] | None:
    """Return the repository and the configuration, if data is a dataset on the Hub, `owner/name[:configuration]`.

    A file or directory with such a name takes precedence.

    Args:
        data: The value of `--data`.

    Returns:
        Repository and configuration (None: the default one); None for paths and addresses.
    """
    match = HUB.fullmatch(data)
    is_path = data.startswith(".") or data.lower().endswith(EXTENSIONS) or os.path.exists(data)
    return None if match is None or is_path else (match["repository"], match["configuration"])


def short_name(data: str) -> str:
    """Return a name for the task: of a file or directory its name, of a pattern that of its directory."""
    if hub := on_hub(data):
        return "-".join(part for part in (PurePosixPath(hub[0]).name, hub[1]) if part)
    path = PurePosixPath(re.split(r"[*?[]", data.split("://")[-1])[0] + "_")
    name = path.name[:-1] or path.parent.name
    while name.lower().endswith(EXTENSIONS):
        name = PurePosixPath(name).stem
    return name
