"""Every method on a CUDA device that computes nothing: all tensors of an operation are on one device."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainables.cases import METHODS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="the device is compiled with c++, on Linux"
)
long = pytest.mark.long


@pytest.mark.parametrize(
    "model", ["tiny-bert", pytest.param("tiny-deberta", marks=long), pytest.param("tiny-llama", marks=long)]
)
def test_every_method_trains_on_the_gpu(model: str) -> None:
    command = [sys.executable, "-m", "benchmarks.fake_cuda", model]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = dict(line.removeprefix(f"{model} ").split(": ", 1) for line in ran.stdout.splitlines())
    assert list(lines) == list(METHODS)
    assert {name for name, line in lines.items() if line == "refused"} == (
        {"bitfit"} if model == "tiny-llama" else set()
    )
