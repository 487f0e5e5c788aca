"""The conformance suite on a GPU: `pytest -m gpu`. With AUTORANK_TEST_DEVICE=cpu this module runs without a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.trainables import conformance_runs as runs
from tests.trainables import test_conformance

globals().update({name: value for name, value in vars(test_conformance).items() if not name.startswith("_")})
pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("AUTORANK_TEST_DEVICE", "cuda")


@pytest.fixture(scope="module", autouse=True)
def on_the_gpu() -> Iterator[None]:
    """Run on the GPU, with deterministic kernels."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.fail("no CUDA device is visible to torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "DEVICE", DEVICE)
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
        torch.use_deterministic_algorithms(False)
