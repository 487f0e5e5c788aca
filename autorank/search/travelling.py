"""This process's autorank for the nodes of a cluster, which may have another version of it or none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = ("autorank", "trainables", "search_spaces")


@contextmanager
def travelling() -> Iterator[dict[str, Any]]:
    """The part of a Ray runtime environment that brings the code along; to be uploaded within.

    Methods are found by their entry points, so the package's metadata go too: as a package of their own, of the two
    files that matter. Ray puts each package's folder on the path before whatever is installed.
    """
    modules = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [spec.submodule_search_locations[0] for spec in modules if spec and spec.submodule_search_locations]
    distribution = importlib.metadata.distribution("autorank")
    with tempfile.TemporaryDirectory() as scratch:
        metadata = Path(scratch) / f"autorank-{distribution.version}.dist-info"
        metadata.mkdir()
        for name in ("METADATA", "entry_points.txt"):
            (metadata / name).write_text(distribution.read_text(name) or "")
        yield {"py_modules": [*folders, str(metadata)], "excludes": ["__pycache__/"]}
