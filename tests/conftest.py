"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray, started once."""
    from autorank.search import cluster

    with cluster.running("local", tmp_path_factory.mktemp("ray") / cluster.LOG):
        yield
