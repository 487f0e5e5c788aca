"""Every method on a CUDA device that computes nothing: tensors are on one device, and no step waits for it."""

from __future__ import annotations

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
MODELS = ["tiny-bert", pytest.param("tiny-deberta", marks=long), pytest.param("tiny-llama", marks=long)]


def trained(model: str, *options: str) -> dict[str, str]:
    """What `benchmarks.fake_cuda` says about each run, or pack of runs."""
    command = [sys.executable, "-m", "benchmarks.fake_cuda", model, *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(line.removeprefix(f"{model} ").split(": ", 1) for line in ran.stdout.splitlines())


@pytest.mark.parametrize("model", MODELS)
def test_every_method_trains_on_the_gpu(model: str) -> None:
    lines = trained(model)
    assert list(lines) == list(METHODS)
    assert {name for name, line in lines.items() if line == "refused"} == (
        {"bitfit"} if model == "tiny-llama" else set()
    )
    assert all(", 0 waits, " in line for line in lines.values() if line != "refused"), lines


@pytest.mark.parametrize("model", MODELS)
def test_packs_train_on_the_gpu(model: str) -> None:
    """Every method with low-rank updates, next to others; some join later, one leaves."""
    lines = trained(model, "--packed")
    assert " ".join(lines).split() == LOW_RANK
    assert all(", 0 waits, " in line for line in lines.values()), lines
