"""Packs on a CUDA device that computes nothing: tensors are on one device, and no step waits for it."""

from __future__ import annotations

from tests.trainables.cases import LOW_RANK
from tests.trainables.fake_cuda_runs import each_model, fake_cuda_results, needs_compiler

pytestmark = needs_compiler


@each_model
def test_packs_train_on_the_gpu(model: str) -> None:
    """Every method with low-rank updates, next to others; some join later, one leaves."""
    lines = fake_cuda_results(model, "--packed")
    assert " ".join(lines).split() == LOW_RANK
    assert all(", 0 waits, " in line for line in lines.values()), lines
