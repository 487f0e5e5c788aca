"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several test processes: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `pytest -n`: what starts Ray runs in one process, and so does what shares a trained model."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    place = item.path.relative_to(Path(__file__).parent)
    if place.parts[0] in ("search", "faults", "recipes") or place.name.startswith("test_cli"):
        return "ray"
    if place.name == "test_conformance.py" and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        return f"{place} {item.callspec.params.get('name')}"
    return str(place)


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray, started once."""
    from autorank.search import cluster

    with cluster.running("local", tmp_path_factory.mktemp("ray") / cluster.LOG):
        yield
