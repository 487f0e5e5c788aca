"""Every method on a simulated CUDA device: all tensors are on the device, and no step waits for it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainables.cases import LOW_RANK, METHODS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="the device is compiled with c++, on Linux"
)
long = pytest.mark.long
each_model = pytest.mark.parametrize(
    "model", ["tiny-bert", pytest.param("tiny-deberta", marks=long), pytest.param("tiny-llama", marks=long)]
)


@functools.cache
def fake_cuda_results(model: str) -> dict[str, str]:
    """Name of each run or pack of runs -> what `benchmarks.fake_cuda` prints about it."""
    command = [sys.executable, "-m", "benchmarks.fake_cuda", model, "--packed"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return dict(line.removeprefix(f"{model} ").split(": ", 1) for line in completed.stdout.splitlines())


@each_model
def test_every_method_trains_on_the_gpu(model: str) -> None:
    lines = {name: line for name, line in fake_cuda_results(model).items() if not name.startswith("pack ")}
    assert list(lines) == list(METHODS)
    assert {name for name, line in lines.items() if line == "refused"} == (
        {"bitfit"} if model == "tiny-llama" else set()
    )
    assert all(", 0 waits, " in line for line in lines.values() if line != "refused"), lines


@each_model
def test_packs_train_on_the_gpu(model: str) -> None:
    """Every method with low-rank updates, next to others; some join later, one leaves."""
    results = fake_cuda_results(model)
    lines = {name.removeprefix("pack "): line for name, line in results.items() if name.startswith("pack ")}
    assert " ".join(lines).split() == LOW_RANK
    assert all(", 0 waits, " in line for line in lines.values()), lines
