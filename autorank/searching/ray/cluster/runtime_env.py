"""This process's autorank and the user's own methods for the nodes of a cluster, which may have others or none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autorank.methods import OWN

DISTRIBUTION = "autorank-lora"
PACKAGES = ("autorank", "trainables", "search_spaces")


def own_methods() -> dict[str, str]:
    """The variable that names methods which no package installs, for the environment there; they do not travel."""
    return {OWN: os.environ[OWN]} if OWN in os.environ else {}


@contextmanager
def travelling() -> Iterator[dict[str, Any]]:
    """The part of a Ray runtime environment that brings the code along; to be uploaded within.

    Methods are found by their entry points, so the package's metadata go too: as a package of their own, of the two
    files that matter. Ray puts each package's folder on the path before whatever is installed.
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
