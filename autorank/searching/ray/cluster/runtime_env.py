"""The Ray runtime environment that brings this process's autorank to the nodes of a cluster."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autorank.methods import METHODS_VARIABLE

DISTRIBUTION = "autorank-lora"
PACKAGES = ("autorank", "trainables", "search_spaces")


def method_variables() -> dict[str, str]:
    """AUTORANK_METHODS for the nodes' environment, if it is set. The modules that it names are not uploaded."""
    return {METHODS_VARIABLE: os.environ[METHODS_VARIABLE]} if METHODS_VARIABLE in os.environ else {}


@contextmanager
def code_upload() -> Iterator[dict[str, Any]]:
    """Yield the part of a Ray runtime environment that uploads autorank's code; upload it within this context.

    Methods are found by their entry points, so the metadata of the distribution (two files) are uploaded as another
    package. Ray puts uploaded packages on the path before the installed ones.

    Yields:
        The entries `py_modules` and `excludes`.
    """
    modules = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [spec.submodule_search_locations[0] for spec in modules if spec and spec.submodule_search_locations]
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    with tempfile.TemporaryDirectory() as scratch:
        metadata = Path(scratch) / f"autorank_lora-{distribution.version}.dist-info"
        metadata.mkdir()
        for name in ("METADATA", "entry_points.txt"):
            (metadata / name).write_text(distribution.read_text(name) or "")
        yield {"py_modules": [*folders, str(metadata)], "excludes": ["__pycache__/"]}
