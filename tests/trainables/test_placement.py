"""Every method on a simulated CUDA device: all tensors are on the device, and no step waits for it."""

from __future__ import annotations

from tests.trainables.cases import METHODS
from tests.trainables.fake_cuda_runs import each_model, fake_cuda_results, needs_compiler

pytestmark = needs_compiler


@each_model
def test_every_method_trains_on_the_gpu(model: str) -> None:
    lines = fake_cuda_results(model)
    assert list(lines) == list(METHODS)
    assert {name for name, line in lines.items() if line == "refused"} == (
        {"bitfit"} if model == "tiny-llama" else set()
    )
    assert all(", 0 waits, " in line for line in lines.values() if line != "refused"), lines
